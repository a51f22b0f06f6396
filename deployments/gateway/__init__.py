"""The HTTP face of Capyra: OpenAI's API over whatever implements `Experts`. Knows no Ray."""
