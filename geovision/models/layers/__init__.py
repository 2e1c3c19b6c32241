"""Building blocks of networks: regridding, normalization, scalers and fusion of sources."""
