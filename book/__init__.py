"""The lecture as a book: pages in docs/ru and docs/en, and the site made of them.

  make docs                # site/index.html, which opens from the file system

A page takes its numbers, code and figures from the tree, so that it cannot disagree with
it: see `book.references`. mkdocs and its theme are needed to build the site only; the
rest of this package, with which the tests check the pages, is plain Python.
"""
