"""vLLM as an engine: its models and kernels behind our contract.

`starting` makes it, `engine` is the asyncio side. A `driver` takes `Call`s and brings back
`Piece`s, in this process (`inprocess`) or with vLLM's own (`processes`); what becomes of them is
`work`: answers, scores, prefixes. Only the drivers, `wire` and `worker` import vLLM. Importing
this package, or its `options`, loads neither vLLM nor torch.
"""
