"""What to measure next: searches that propose plans to a race until its budget is spent (rank 7.5).

`shortlist` follows the model, `evolve` also learns from what was measured; `metaschedule` hands the
question to TVM's own search.
"""
