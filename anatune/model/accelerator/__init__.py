"""The model for described accelerators: blocks, loops, buffers and their simulation (rank 4).

In the order in which a plan comes about: `machine` turns the description and a workload into costs
of one operation and one transfer; `layout` places buffers; `traffic` counts what a plan moves, and
bounds its cycles from below; `timeline` walks through a plan and predicts its cycles; `space` lists
legal plans, `choose` searches them, `edges` covers what full blocks leave. `stream` writes a plan
down as commands, and `simulate` executes these on the described machine, numbers included.
`operate` is its engine, `numbers` and `checks` watch it. `estimate` and `explain` report, `ranges`
cuts dynamic extents, `entry` is what the package's functions call.
"""
