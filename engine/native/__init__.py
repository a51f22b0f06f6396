"""The native engine: torch, paged K/V and continuous batching on one thread.

`engine` is the asyncio side, `loop` the thread; between them only whole batches cross. `scheduler`,
`cache`, `prefix` and `blocks` decide in plain numbers; `executor` is where they become tensors for
the model in `model/`. Importing this package, or its `options`, loads no torch.
"""
