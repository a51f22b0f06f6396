"""One module for each field: grammars and templates that make its examples."""
