"""What a compiled program costs on a chip: parsed from the program itself."""
