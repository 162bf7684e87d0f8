"""Labels as Cilium writes them: a source, a key, a value; keys of selectors; IPs as labels."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

# Names that Cilium reserves; cilium/cilium pkg/labels/labels.go and
# pkg/k8s/apis/cilium.io/const.go, b095517e625e
ANY: Final = "any"
CIDR: Final = "cidr"
CIDR_GROUP: Final = "cidrgroup"
# cilium/cilium pkg/policy/api/cidr.go, LabelPrefixGroupName
CIDR_GROUP_NAME: Final = "io.cilium.policy.cidrgroupname"
FQDN: Final = "fqdn"
K8S: Final = "k8s"
RESERVED: Final = "reserved"
PREFIX: Final = "io.cilium.k8s"
NAMESPACE: Final = "io.kubernetes.pod.namespace"
NAMESPACE_LABELS: Final = f"{PREFIX}.namespace.labels"
CLUSTER: Final = f"{PREFIX}.policy.cluster"
SERVICE_ACCOUNT: Final = f"{PREFIX}.policy.serviceaccount"

_NAME: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]\Z")
_VALUE: Final = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?\Z")
_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\Z")
_LONGEST: Final = 63
_LONGEST_SUBDOMAIN: Final = 253


class Prefix(NamedTuple):
    """An IP prefix: version 4 or 6, the address as a number with no host bits, length."""

    version: int
    address: int
    length: int

    @property
    def width(self) -> int:
        """Bits of an address of the family."""
        return 32 if self.version == 4 else 128

    def __str__(self) -> str:
        address = ipaddress.IPv4Address if self.version == 4 else ipaddress.IPv6Address
        return f"{address(self.address)}/{self.length}"


def parse_prefix(text: str, *, is_bare_allowed: bool = True) -> Prefix:
    """Read an IP prefix, or an address as the prefix of itself.

    Host bits are dropped, as Cilium does. Zones of IPv6 are refused.

    Raises
    ------
    ValueError
        If the text is no prefix.

    Examples
    --------
    >>> str(parse_prefix("10.1.2.3/8")), str(parse_prefix("fd00::1"))
    ('10.0.0.0/8', 'fd00::1/128')
    """
    address, slash, length = text.partition("/")
    if not slash and not is_bare_allowed:
        raise ValueError("no '/'")
    if "%" in text:
        raise ValueError("IPv6 zones cannot be present in a prefix")
    parsed = ipaddress.ip_address(address)
    bits = int(length) if slash and length.isascii() and length.isdigit() else None
    if slash and (bits is None or bits > parsed.max_prefixlen or str(bits) != length):
        raise ValueError(f"bad bits after slash: {length!r}")
    bits = parsed.max_prefixlen if bits is None else bits
    shift = parsed.max_prefixlen - bits
    return Prefix(parsed.version, int(parsed) >> shift << shift, bits)


def cidr_key(prefix: Prefix) -> str:
    """Key of the label of a prefix: no colons, and no dash at either end.

    Examples
    --------
    >>> cidr_key(parse_prefix("::/0")), cidr_key(parse_prefix("fd00::/8"))
    ('0--0/0', 'fd00--0/8')
    """
    address, _, length = str(prefix).rpartition("/")
    key = address.replace(":", "-")
    key = f"0{key}" if key.startswith("-") else key
    key = f"{key}0" if key.endswith("-") else key
    return f"{key}/{length}"


def prefix_of_key(key: str) -> Prefix | None:
    """Prefix of the key of a CIDR label; None where it is none."""
    try:
        return parse_prefix(key.replace("-", ":"), is_bare_allowed=False)
    except ValueError:
        return None


def selector_key(text: str) -> str:
    """Key of a selector with its source in front, ``any`` where none is given.

    Examples
    --------
    >>> selector_key("app.kubernetes.io/name"), selector_key("k8s:app"), selector_key("$host")
    ('any.app.kubernetes.io/name', 'k8s.app', 'reserved.host')
    """
    if text.startswith("$"):
        return f"{RESERVED}.{text[1:]}"
    source, colon, key = text.partition(":")
    if not colon:
        if text.startswith(f"{RESERVED}."):
            return text
        source, key = ANY, text
    return f"{source or ANY}.{key.partition('=')[0]}"


def faults_of_key(key: str) -> list[str]:
    """Tell why a label key is none: what Kubernetes' validation says of it, in short."""
    parts = key.split("/")
    if len(parts) > 2:
        return ["a qualified name must consist of a name with an optional DNS subdomain prefix"]
    faults = []
    if len(parts) == 2:
        if not parts[0]:
            faults.append("prefix part must be non-empty")
        elif len(parts[0]) > _LONGEST_SUBDOMAIN or not _SUBDOMAIN.match(parts[0]):
            faults.append("prefix part must be a lowercase RFC 1123 subdomain")
    if not parts[-1]:
        faults.append("name part must be non-empty")
    elif len(parts[-1]) > _LONGEST:
        faults.append("name part must be no more than 63 characters")
    if not _NAME.match(parts[-1]):
        faults.append("name part must consist of alphanumeric characters, '-', '_' or '.'")
    return faults


def faults_of_value(value: str) -> list[str]:
    """Tell why a label value is none."""
    if len(value) > _LONGEST:
        return ["must be no more than 63 characters"]
    if not _VALUE.match(value):
        return ["a valid label must be an empty string or consist of alphanumeric characters"]
    return []
