"""Profiles of targets `multiboot1` and `multiboot2`: the machine as each loader leaves it at the entry.

The contract is Multiboot 0.6.96 §3.2 and Multiboot2 2.0 §3.3: EAX, EBX, flat segments, A20, CR0.PE without
paging, IF and VM clear. What else a loader leaves is its profile's; garbage replaces it in poisoned runs.
"""
