"""What an operator edits, the demo experts, and the recipes that train them."""
