"""Times the depthwise convolution as shifts and as XLA's grouped convolution.

  python tests/benchmarks/depthwise.py

Prints milliseconds of the forward pass, and of it with both gradients, and the
ratio native / shifts; above 1 the shifts are faster.
"""

import time

import jax
import jax.numpy as jnp

from rnascl_jax.models import convolutions

# [B, H, W, C], stride: the depthwise convolutions of S3 at batch 128.
_CASES = (
  ((128, 16, 16, 96), 1),
  ((128, 16, 16, 96), 2),
  ((128, 8, 8, 192), 1),
  ((128, 4, 4, 384), 1),
)
_REPEATS = 10


def _milliseconds(function, *arguments) -> float:
  """The fastest of several runs, compilation apart."""
  jax.block_until_ready(function(*arguments))
  times = []
  for _ in range(_REPEATS):
    start = time.perf_counter()
    jax.block_until_ready(function(*arguments))
    times.append(time.perf_counter() - start)
  return 1e3 * min(times)


def main() -> None:
  """Prints the table."""
  device = jax.devices()[0]
  print(f'device: {device.device_kind}, JAX {jax.__version__}')
  print('| input | stride | pass | native ms | shifts ms | ratio |')
  print('| --- | --- | --- | --- | --- | --- |')
  for shape, stride in _CASES:
    x = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 1, shape[-1]))
    for name in ('forward', 'gradients'):
      times = []
      for conv in (
        convolutions.native_depthwise_conv,
        convolutions.shift_depthwise_conv,
      ):

        def forward(x, kernel, conv=conv, stride=stride):
          return conv(x, kernel, stride)

        def total(x, kernel, forward=forward):
          return jnp.sum(jnp.square(forward(x, kernel)))

        chosen = forward if name == 'forward' else jax.grad(total, (0, 1))
        times.append(_milliseconds(jax.jit(chosen), x, kernel))
      native, shifts = times
      print(
        f'| {shape} | {stride} | {name} | {native:.2f} | {shifts:.2f} | '
        f'{native / shifts:.1f} |'
      )


if __name__ == '__main__':
  main()
