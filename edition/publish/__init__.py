"""From chapters to pages: execute what changed, clean the outputs, build the book, check its links.

A build is `site.build_site`: it stages the sources (`layout`, `repository`), executes the chapters whose key changed
(`execute`, `fingerprint`, `cells`), writes when and where that was (`status`), and renders with the Sphinx extensions
`furniture`, `numbering` and `code`, which `_config.yml` names. `links`, `pdf` and `freeze` work on what it made.
"""
