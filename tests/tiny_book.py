"""The smallest configuration that Jupyter Book builds from; tests add their own parts."""

CONFIG = """\
title: Tiny
author: nobody
copyright: "2026"
only_build_toc_files: true
execute:
  execute_notebooks: "off"
"""
