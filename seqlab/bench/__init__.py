"""`seqlab bench`: how fast start-up, input, training, decoding and the rest are.

Everything in a table is measured by one command on one machine, so that ratios between
rows, and to other libraries, mean something. `parts.PARTS` lists what can be measured.
"""
