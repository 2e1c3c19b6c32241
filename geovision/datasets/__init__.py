"""Dataset adapters: each reads the files of one published layout as samples in physical units."""
