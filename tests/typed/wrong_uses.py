"""Mistakes that a type checker must find: each on its line, with what mypy calls it."""

import numpy as np

import ravine

ravine.Lion()  # attr-defined
ravine.schedules.Linear(0.1)  # attr-defined
ravine.SGD(momentun=0.9)  # call-arg
ravine.SGD(clipnorm="1")  # arg-type
ravine.SGD(0.1, 0.9, True, 0.01)  # call-arg
ravine.SGD("fast")  # arg-type
ravine.Nadam(beta_1=lambda step: 0.9)  # arg-type, misc
ravine.LossScaleOptimizer()  # call-arg
ravine.SGD().learning_rate = "no"  # assignment
ravine.SGD().iterations = 3  # misc
ravine.SGD().build(np.ones(2), np.ones(2))  # arg-type, call-arg
ravine.SGD().build(1.0)  # arg-type
ravine.SGD().apply(3)  # arg-type
ravine.SGD().apply(["gradient"])  # list-item
ravine.SGD().apply_gradients([np.ones(2)])  # list-item
ravine.SGD().save(3)  # arg-type
ravine.get(ravine.SGD)  # arg-type
ravine.set_num_threads("all")  # arg-type
ravine.schedules.CosineDecay(0.1)  # call-arg
text: str = ravine.SGD().learning_rate  # assignment
