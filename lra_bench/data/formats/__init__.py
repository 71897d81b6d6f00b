"""How examples lie in files and in memory: tables, labels, texts as bytes, pictures and sounds as levels."""
