"""What in a classifier's code gradient attacks cannot see through.

Operations between the image and the logits that draw random numbers, round,
hide or replace a gradient, or may have none. None of them is an error, and each
is in honest networks too: a rounding of constants, the custom gradient of a
layer, the `stop_gradient` of a softmax. What does not depend on the image or
does not reach the logits is left out, and so are comparisons and indices that
only select (relu, max-pooling) and custom gradients of JAX itself.
`pre_attack.check` measures whether gradients that are hidden or replaced are
wrong.

This sees a random number under a fixed key, which no repeated evaluation tells.
It takes for rounding what ends in a continuous function again: the coordinates
of a bilinear lookup, if they are computed from the image.

Example:
  >>> import jax.numpy as jnp
  >>> from rnascl_jax.attacks.checks import program_checks
  >>> def logits_fn(images):
  ...   images = jnp.round(16 * images) / 16
  ...   return images.reshape(-1, 4) @ jnp.eye(4, 3)
  >>> steps = program_checks.steps(logits_fn, (2, 2, 1), jnp.float32)
  >>> for warning in program_checks.warnings(steps, measurable=False):
  ...   print(warning.kind)
  rounding

Reference:
  Athalye, Carlini and Wagner, Obfuscated gradients give a false sense of
  security, ICML 2018, sections 3 and 4: shattered, stochastic, vanishing and
  exploding gradients.
"""

import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from rnascl_jax.attacks.checks import dataflow
from rnascl_jax.attacks.checks.dataflow import Step
from rnascl_jax.attacks.checks.warning import AttackWarning
from rnascl_jax.base import LogitsFn
from rnascl_jax.runtime import jaxprs

RANDOM = 'random numbers'
# Places named in a message; the others are counted.
_MAX_PLACES = 3
# Types with a shorter mantissa quantise: those of 8 bits and fewer.
_MIN_MANTISSA = 7
_ROUNDING = ('round', 'floor', 'ceil', 'sign', 'reduce_precision')
# Custom gradients that are written in here are JAX's own, such as of its relu.
_JAX = str(pathlib.Path(jax.__file__).parent)


class _Rule(NamedTuple):
  """A sort of operations, and what is said of them."""

  kind: str
  applies: Callable[[Step], bool]
  message: str  # After `logits_fn`, with the places in braces.
  measurable: bool = False  # By comparing the gradient with differences.


def steps(
  function: LogitsFn, image_shape: Sequence[int], dtype: Any
) -> list[Step]:
  """Lists the operations of a classifier [B, H, W, C] -> [B, K].

  Args:
    function: the classifier; it is traced, and never compiled.
    image_shape: (H, W, C).
    dtype: the type of the images.

  Returns:
    What the functions below look at.
  """
  return dataflow.steps(
    function, jax.ShapeDtypeStruct((1, *image_shape), dtype)
  )


def warnings(steps: Sequence[Step], *, measurable: bool) -> list[AttackWarning]:
  """Warns of operations that may mask gradients.

  Args:
    steps: what `steps` gives.
    measurable: whether to warn of gradients that are hidden, replaced, or may
      not exist, which is harmless where the gradient agrees with differences of
      the logits; or else of random numbers, rounding and calls of Python, which
      no measurement of the gradient makes harmless.

  Returns:
    At most one warning of each kind.
  """
  messages = []
  for rule in _RULES:
    places = list(dict.fromkeys(map(str, filter(rule.applies, steps))))
    if len(places) > _MAX_PLACES:
      places[_MAX_PLACES:] = [f'{len(places) - _MAX_PLACES} more']
    if places and rule.measurable == measurable:
      message = f'logits_fn {rule.message.format("; ".join(places))}'
      messages.append(AttackWarning(rule.kind, message))
  return messages


def is_random(step: Step) -> bool:
  """Says whether the logits depend on random numbers that a step draws."""
  draws = step.name.startswith(('random_bits', 'rng_', 'threefry'))
  return draws and step.reaches


def resolution(steps: Sequence[Step]) -> float:
  """Gives the coarsest relative spacing of numbers on the way to the logits.

  Args:
    steps: what `steps` gives.

  Returns:
    1.2e-7 for float32 throughout, and 0.0078 if some of it is bfloat16.
  """
  results = [v for s in steps if _passes(s) for v in s.equation.outvars]
  types = [v.aval.dtype for v in results if _is_inexact(v)]
  return max((float(jnp.finfo(t).eps) for t in types), default=0.0)


def _rounds(step: Step) -> bool:
  """Whether the image's floats become whole numbers, truth values or coarse."""
  operands = zip(step.equation.invars, step.depends, strict=True)
  if not any(depends and _is_inexact(v) for v, depends in operands):
    return False
  if step.name in _ROUNDING:
    return any(step.as_value)
  if jaxprs.called(step.equation):  # Its equations are steps themselves.
    return False
  results = zip(step.equation.outvars, step.as_value, strict=True)
  return any(value and _is_coarse(v) for v, value in results)


def _is_inexact(variable: Any) -> bool:
  dtype = getattr(variable.aval, 'dtype', None)
  return dtype is not None and jnp.issubdtype(dtype, jnp.inexact)


def _is_coarse(variable: Any) -> bool:
  """Whether it is of whole numbers, truth values or floats of few bits."""
  if not _is_inexact(variable):
    return hasattr(variable.aval, 'dtype')
  return jnp.finfo(variable.aval.dtype).nmant < _MIN_MANTISSA


def _passes(step: Step) -> bool:
  """Whether something goes from the image to the logits here."""
  return step.reaches and any(step.depends)


def _is_custom(step: Step) -> bool:
  if not step.name.startswith(('custom_jvp_call', 'custom_vjp_call')):
    return False
  info = jaxprs.opened(step.equation.params['call_jaxpr']).debug_info
  return _JAX not in str(info.func_src_info)


_RULES = (
  _Rule(
    RANDOM,
    is_random,
    'draws random numbers that the logits depend on ({}). Under a fixed key '
    'this noise is the same whenever it is evaluated, attacks fit to it, and '
    'the result says nothing of other draws. Give auto_attack a '
    "Randomized(function of images and key) and version='rand', which averages "
    'gradients over draws; if they are random but constant weights, compute '
    'them outside.',
  ),
  _Rule(
    'rounding',
    _rounds,
    'rounds or compares what it computed from the image and goes on with the '
    'outcome ({}). Such a step has a derivative of zero, or one that was made '
    'up, and attacks by gradients may miss adversarial images. Give the step a '
    'smooth substitute in the backward pass (BPDA, Athalye et al. 2018), or '
    'attack without it and transfer the images; and see what Square with more '
    'queries breaks: attacks=[ensembles.square(num_steps=20_000)].',
  ),
  _Rule(
    'python callback',
    lambda step: step.reaches and 'callback' in step.name,
    'calls Python from within ({}), where nothing can be checked and where JAX '
    'has no gradient. Write that part in JAX, or trust black-box attacks only.',
  ),
  _Rule(
    'stop_gradient',
    lambda step: _passes(step) and step.name == 'stop_gradient',
    'hides a part of its gradient from attacks with stop_gradient ({}).',
    measurable=True,
  ),
  _Rule(
    'custom gradient',
    lambda step: _passes(step) and _is_custom(step),
    'replaces derivatives by custom ones ({}).',
    measurable=True,
  ),
  _Rule(
    'loop',
    lambda step: _passes(step) and step.name == 'while',
    'has a loop of unknown length ({}), through which JAX has no gradient '
    'unless a custom one is given.',
    measurable=True,
  ),
)
