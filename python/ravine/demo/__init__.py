"""A real training that compares `ravine` with the same update in plain NumPy: `python -m ravine`.

`network` and `data` are what is trained, `plain` is the update as one writes it by hand, `recipes`
holds the optimizers to choose from. `training` runs and times one training, `comparison` runs it
with each update; `report` and `picture` show the results, and `cli` is the command line.
"""
