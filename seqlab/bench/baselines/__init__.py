"""Other libraries as contenders; each module runs in the environment of its library.

The modules are imported by `serve` in a process of that library's Python. They import
the library, NumPy, and modules of seqlab that need no JAX. A contender is a class:

    Contender(job)      job: what `against` writes, a dict
    .facts()            versions, threads, and more, for the record
    .step()             works; returns the number of units (tokens, sentences) done
    .outputs()          decoding only: ids per sentence
"""
