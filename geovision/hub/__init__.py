"""Downloads, uploads and verification of datasets and models.

Connections are opened only on request; no other package of geovision opens one.
"""
