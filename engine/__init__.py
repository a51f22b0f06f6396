"""The Engine contract and its implementations.

`base` is the contract, `types` its vocabulary, `errors` its failures, `config` an expert's
settings, `registry` the way from a name in the experts file to an engine. Importing this
package imports no engine.
"""
