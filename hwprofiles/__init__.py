"""Shipped hardware profiles: data only, found by `anatune.hwprofile.places`, also in an installed wheel."""
