"""The version of all numbers that this code computes.

A change of the code that changes results of an unchanged experiment raises `NUMERICS`,
in the same commit, and adds a line to the table. Results of the registry that have an
earlier number are then shown as stale. It is raised for a changed default, another
order of random numbers, a mended measure or search, another initialisation; not for a
difference of rounding, which lies within the spread over seeds.

| number | date | change |
|---|---|---|
| 1 | 2026-11-30 | the first number; runs without a record of it count as 1 |
"""

NUMERICS = 1
