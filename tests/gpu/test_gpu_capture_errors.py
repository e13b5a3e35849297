"""What cannot be captured into a CUDA graph: it is refused, changes nothing and spoils nothing."""

import pytest
from checks import cases, raises
from gpu_checks import all_of, captured

import ravine

FUNCTION = (
    "A step cannot be captured into a CUDA graph where {} comes from a schedule or a function: "
    "replays would repeat the value of the capture. Use a number, and set optimizer.learning_rate "
    "between replays."
)
NOT_NOW = (
    "{} while a CUDA graph is captured. Do it before the capture, or after it between replays."
)
INSIDE = {
    "rate": (
        lambda o, w, g: setattr(o, "learning_rate", 0.5),
        ValueError,
        NOT_NOW.format("learning_rate cannot be set"),
    ),
    "schedule": (
        lambda o, w, g: setattr(o, "learning_rate", lambda: 0.5),
        ValueError,
        NOT_NOW.format("learning_rate cannot be set"),
    ),
    "finalize": (
        lambda o, w, g: o.finalize_variable_values(),
        ValueError,
        NOT_NOW.format("Variables cannot be overwritten by their averages"),
    ),
    "averages": (
        lambda o, w, g: o.averaged_weights().__enter__(),
        ValueError,
        NOT_NOW.format("Averages cannot be shown"),
    ),
    "save": (
        lambda o, w, g: o.state_dict(),
        ValueError,
        NOT_NOW.format("The state cannot be copied"),
    ),
    "load": (
        lambda o, w, g: o.load_state_dict({}),
        ValueError,
        NOT_NOW.format("A state cannot be loaded"),
    ),
    "build": (
        lambda o, w, g: ravine.SGD(0.5, momentum=0.5).build(w),
        ValueError,
        "The state of an optimizer cannot be made while a CUDA graph is captured. Call "
        "build(variables) before the capture.",
    ),
    "first_step": (
        lambda o, w, g: ravine.Nadam(0.5).apply(g, w),
        ValueError,
        "The state of an optimizer cannot be made while a CUDA graph is captured. Call "
        "build(variables) before the capture.",
    ),
}


def small(xp, make=lambda: ravine.Nadam(0.5, use_ema=True)):
    w, g = [xp.zeros(3)], [xp.ones(3)]
    optimizer = make()
    optimizer.build(w)
    return optimizer, w, g


@cases(INSIDE)
def test_call_inside_a_capture_is_refused(xp, call, kind, message):
    optimizer, w, g = small(xp)
    before = all_of(optimizer, *w)
    stream = xp.cuda.Stream(non_blocking=True)

    def refused():
        with raises(kind, message):
            call(optimizer, w, g)

    # It spoils nothing: the graph has the step after it.
    graph = captured(stream, refused, lambda: optimizer.apply(g))
    assert all_of(optimizer, *w) == before
    graph.launch(stream)
    assert optimizer.iterations == 1


def test_count_is_not_read_inside_a_capture_once_the_device_counts(xp):
    optimizer, _, g = small(xp)

    def refused():
        with raises(ValueError, NOT_NOW.format("The number of steps cannot be read")):
            _ = optimizer.iterations

    stream = xp.cuda.Stream(non_blocking=True)
    captured(stream, lambda: optimizer.apply(g), refused).launch(stream)
    assert optimizer.iterations == 1


CHANGING = {
    "schedule": (
        lambda: ravine.SGD(ravine.schedules.ExponentialDecay(0.5, 2, 0.5)),
        "learning_rate",
    ),
    "function": (lambda: ravine.SGD(lambda: 0.5), "learning_rate"),
    "beta": (lambda: ravine.Nadam(0.5, beta_2=lambda: 0.5), "beta_2"),
    "all": (
        lambda: ravine.Nadam(lambda: 0.5, beta_1=lambda: 0.5, beta_2=lambda: 0.5),
        "learning_rate and beta_1 and beta_2",
    ),
}


@pytest.mark.parametrize("names_stream", [False, True])
@pytest.mark.parametrize(("make", "names"), CHANGING.values(), ids=CHANGING)
def test_step_with_functions_is_not_captured(xp, make, names, names_stream):
    optimizer, w, g = small(xp, make)
    optimizer.apply(g)
    before = all_of_without_config(optimizer, w)
    stream, current = xp.cuda.Stream(non_blocking=True), xp.cuda.get_current_stream()

    def refused():
        with raises(ValueError, FUNCTION.format(names)):
            if names_stream:
                with current:
                    optimizer.apply(g, stream=stream)
            else:
                optimizer.apply(g)

    captured(stream, refused)
    assert all_of_without_config(optimizer, w) == before
    optimizer.apply(g)
    assert optimizer.iterations == 2


def all_of_without_config(optimizer, arrays):
    optimizer.get_config = dict  # functions have none
    return all_of(optimizer, *arrays)


def test_first_capture_begins_with_a_window_of_accumulation(xp):
    optimizer, w, g = small(xp, lambda: ravine.SGD(0.5, gradient_accumulation_steps=2))
    optimizer.apply(g)
    before = all_of(optimizer, *w)
    stream = xp.cuda.Stream(non_blocking=True)

    def refused():
        with pytest.raises(ValueError, match="must begin a window of gradient_accumulation_steps"):
            optimizer.apply(g)

    captured(stream, refused)
    assert all_of(optimizer, *w) == before
    optimizer.apply(g)
    assert optimizer.iterations == 1


@pytest.mark.parametrize(
    "value", [lambda: 0.5, ravine.schedules.ExponentialDecay(0.5, 2, 0.5)], ids=["f", "schedule"]
)
def test_rate_stays_a_number_after_a_capture(xp, value):
    optimizer, w, g = small(xp)
    stream = xp.cuda.Stream(non_blocking=True)
    graph = captured(stream, lambda: optimizer.apply(g))
    before = all_of(optimizer, *w)
    with raises(
        ValueError,
        "learning_rate must be a number once a step was captured into a CUDA graph: replays ask no "
        "schedule and no function. Set optimizer.learning_rate to a number between replays. "
        f"Received: {value!r}.",
    ):
        optimizer.learning_rate = value
    assert all_of(optimizer, *w) == before
    graph.launch(stream)
    assert optimizer.iterations == 1
