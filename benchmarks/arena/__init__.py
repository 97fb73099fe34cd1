"""The arena: recipes side by side on the same model, texts, starts and budget."""
