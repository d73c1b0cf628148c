"""Is a host this machine, and no other?"""

import ipaddress


def is_loopback(host: str) -> bool:
    """`localhost`, or an address of the loopback; another name may mean any machine."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
