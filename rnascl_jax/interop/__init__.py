"""Files of other frameworks: where weights come from, and where models go.

| module        | what it has                                            |
| ------------- | ------------------------------------------------------ |
| `files`       | checkpoints (.pt, .pth, .ckpt, .safetensors) as arrays |
| `pickles`     | files of `torch.save`: their `archive`, the program in |
|               | it (`unpickler`, `makers`) and its `tensors`           |
| `wrappers`    | what is around a checkpoint, and how to unpack it      |
| `state_dicts` | Flax variables as a state dict and back                |
| `student`     | a derived student as a `torch.nn.Module`               |
| `export`      | a model as a file for PyTorch, for ONNX                |
|               | (`onnx_student`), StableHLO and LiteRT (`portable`);   |
|               | its `usage`, the `model_card` beside it, and the int8  |
|               | form of the file for ONNX (`quantization`)             |
| `runtimes`    | what runs such files, to compare them with the model,  |
|               | on `attacked_images` too                               |

Published teachers are read by `torch_import`. Only `student` needs PyTorch to
be imported; `files` needs it where a file is run, in the unsafe way, alone.
"""
