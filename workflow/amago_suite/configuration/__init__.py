"""What a person wrote: suites, sites, profiles and gin, read, checked and merged, and the hashes of what comes out."""
