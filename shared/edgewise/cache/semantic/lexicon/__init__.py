"""What the verifier knows of words, as data files with their source in the first lines. Read once, when first used."""
