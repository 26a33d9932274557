"""Transfer to a domain that a network has not seen, by linear probing (DomainBed's data sets; Appendix F)."""
