"""Shipped hardware profiles: data only, found by `anatune.hwprofile.places`, in a wheel too."""
