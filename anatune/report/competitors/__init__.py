"""What runs beside our kernel: one class per library, and the list of them (rank 9).

`registry` says who can compute a workload and with which settings; each choice there names a class
of a module beside it, which is made and called in a worker process of its own. Nothing heavy is
imported at the top of any: a library reads its environment while it is loaded, so the settings are
written first.
"""
