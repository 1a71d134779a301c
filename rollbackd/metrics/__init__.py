"""What foreign metrics mean: their text, their growth, and the names under which services usually count. No I/O."""
