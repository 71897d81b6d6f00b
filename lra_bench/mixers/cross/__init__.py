"""Cross forms of mixers: how each place of a target reads a source. One a file, under the name of its mixer's file.

Found by looking into this folder, or into the folder `cross` beside a user's own file; there is no registry to edit.
"""
