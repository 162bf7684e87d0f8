"""Services → frontends: each (address, port, scope) that takes a service ID on a node."""

from __future__ import annotations

from typing import Final

import polars as pl

from capacity.cilium.services.choices import Choices
from capacity.cilium.services.source_ranges import source_ranges
from capacity.inventory import Inventory

_PORT: Final = pl.Struct(
    {"name": pl.String, "protocol": pl.String, "port": pl.Int64, "nodePort": pl.Int64}
)
_OBJECT: Final = pl.Struct(
    {
        "spec": pl.Struct(
            {
                "clusterIP": pl.String,
                "clusterIPs": pl.List(pl.String),
                "ipFamilies": pl.List(pl.String),
                "externalIPs": pl.List(pl.String),
                "loadBalancerSourceRanges": pl.List(pl.String),
                "loadBalancerClass": pl.String,
                "allocateLoadBalancerNodePorts": pl.Boolean,
                "healthCheckNodePort": pl.Int64,
                "ports": pl.List(_PORT),
            }
        ),
        "status": pl.Struct(
            {
                "loadBalancer": pl.Struct(
                    {"ingress": pl.List(pl.Struct({"ip": pl.String, "ipMode": pl.String}))}
                )
            }
        ),
    }
)
# Order in which frontends are written: of one address and port the later one stays.
# ≤ 1.17: pkg/k8s/watchers/service.go datapathSVCs; ≥ 1.18: pkg/loadbalancer/reflectors
_ORDER: Final = {"ClusterIP": 0, "LoadBalancer": 1, "ExternalIPs": 2, "NodePort": 3, "HostPort": 4}
_REWRITTEN_ORDER: Final = _ORDER | {"NodePort": 1, "LoadBalancer": 2, "ExternalIPs": 3}
_SURROGATES: Final = {4: "0.0.0.0", 6: "::"}  # noqa: S104 - the key of a map, nothing listens
_LIKE_ADDRESS: Final = r"^(\d{1,3}(\.\d{1,3}){3}|[0-9A-Fa-f:.]*:[0-9A-Fa-f:.]*|assigned[/:].*)$"
_EXPOSED: Final = "$.annotations['service.cilium.io/type']"
_ALGORITHM: Final = "$.annotations['service.cilium.io/lb-algorithm']"
_ON_NODE: Final = "service.cilium.io/node"
_KINDS: Final = ("ClusterIP", "NodePort", "LoadBalancer")
_HEADLESS: Final = "service.kubernetes.io/headless"
_CLASSES: Final = ("io.cilium/bgp-control-plane", "io.cilium/l2-announcer")
_SERVICE: Final = (
    "svc", "namespace", "service", "type", "cluster_ips", "lb_ips", "external_ips", "families",
    "ports", "ranges", "two_scopes", "external_local", "internal_local", "affinity", "health_port",
    "maglev", "exposed", "is_wild",
)  # fmt: skip


def frontends_in(inventory: Inventory, chosen: Choices) -> pl.DataFrame:
    """Give the frontends that the agent of one node programs.

    Returns
    -------
    DataFrame
        svc (row of the service; null for HostPort), namespace, service, kind (ClusterIP, NodePort,
        LoadBalancer, ExternalIPs, HealthCheck), address, family, port, protocol, name (of the
        port), scope (external, internal), is_local (only backends of the node), affinity, maglev,
        ranges (source CIDRs of its family), is_wild (1.20: its address has a wildcard entry).

    References
    ----------
    .. [1] cilium/cilium pkg/k8s/service.go `ParseService`, pkg/k8s/watchers/service.go
       `datapathSVCs`, pkg/service/service.go `upsertService`, b095517e625e (1.17-dev).
    .. [2] cilium/cilium pkg/loadbalancer/reflectors/conversions.go `convertService`,
       pkg/loadbalancer/reconciler/bpf_reconciler.go, main of 2026 (1.18 and later).
    """
    services = _services(inventory, chosen)
    ports = _ports(services, chosen)
    parts = [
        _of_addresses(services, ports, "ClusterIP", "cluster_ips", chosen),
        *_outside(services, ports, chosen),
    ]
    both = _scoped(pl.concat(parts), services, chosen)
    made = _once(_with_health_checks(both, services, chosen), chosen)
    return made.with_columns(
        pl.col("name", "protocol").cast(pl.Categorical), pl.col("family").cast(pl.Int8)
    )


def _services(inventory: Inventory, chosen: Choices) -> pl.DataFrame:
    """Services that have frontends at all, with lists of their addresses and ports."""
    told = pl.col("told")
    spec = told.struct.field("spec").struct
    ingress = told.struct.field("status").struct.field("loadBalancer").struct.field("ingress")
    local_external, local_internal = (
        pl.col(name) == "Local" for name in ("external_policy", "internal_policy")
    )
    frame = inventory.services.with_row_index("svc").with_columns(
        told=pl.col("object").str.json_decode(_OBJECT)
    )
    single, listed = spec.field("clusterIP"), spec.field("clusterIPs")
    families = pl.col("families")
    frame = frame.with_columns(
        families=spec.field("ipFamilies"),
        is_new=single.is_null() & listed.is_null(),
        is_headless=(single.str.to_lowercase() == "none").fill_null(value=False)
        | (listed.list.first().str.to_lowercase() == "none").fill_null(value=False),
        cluster_ips=pl.when(listed.list.len().fill_null(0) > 0)
        .then(listed)
        .otherwise(pl.concat_list(single.fill_null(""))),
        external_ips=spec.field("externalIPs").fill_null([]),
        ingress=ingress.fill_null([]),
        ranges=spec.field("loadBalancerSourceRanges").fill_null([]),
        ports=spec.field("ports").fill_null([]),
        two_scopes=local_external != local_internal,
        external_local=local_external,
        internal_local=local_internal,
        health_port=spec.field("healthCheckNodePort").fill_null(0),
        allocates=spec.field("allocateLoadBalancerNodePorts").fill_null(value=True),
        is_wild=spec.field("loadBalancerClass").is_in(_CLASSES).fill_null(chosen.lb_ipam),
        exposed=pl.col("object").str.json_path_match(_EXPOSED)
        if chosen.type_annotation
        else pl.lit(None, pl.String),
        maglev=_maglev(chosen),
    )
    frame = _assigned(frame, chosen).with_columns(
        exposed=pl.when(pl.col("exposed").is_in(_KINDS)).then("exposed")
    )
    vip = pl.element().struct.field("ipMode").fill_null("VIP") == "VIP"
    ips = pl.col("ingress").list.eval(
        pl.element().filter(vip if chosen.is_rewritten else pl.lit(value=True)).struct.field("ip")
    )
    frame = frame.with_columns(lb_ips=ips, families=_families(families, chosen))
    return _without_ignored(frame, inventory, chosen).select(_SERVICE)


def _maglev(chosen: Choices) -> pl.Expr:
    """Whether a service asks for Maglev: the option, or an annotation where these are heeded."""
    asked = pl.col("object").str.json_path_match(_ALGORITHM).str.to_lowercase()
    if not chosen.annotated_algorithm:
        return pl.lit(chosen.maglev)
    return asked.replace_strict({"maglev": True, "random": False}, default=chosen.maglev)


def _assigned(frame: pl.DataFrame, chosen: Choices) -> pl.DataFrame:
    """Give services out of manifests what the API server and LB IPAM will assign to them.

    A manifest tells no cluster IP; an object of an API server tells one, be it "" or None.
    """
    new, number = pl.col("is_new") & (pl.col("type") != "ExternalName"), pl.col("svc")
    four = pl.col("families").list.contains("IPv4").fill_null(chosen.ipv4)
    six = pl.col("families").list.contains("IPv6").fill_null(not chosen.ipv4)

    def addresses(what: str) -> pl.Expr:
        own = pl.when(four).then(pl.format(f"assigned/{what}/{{}}", number))
        other = pl.when(six).then(pl.format(f"assigned:{what}:{{}}", number))
        return pl.concat_list(own, other).list.drop_nulls()

    told = pl.col("cluster_ips").list.filter(pl.element() != "")
    vips = addresses("vip").list.eval(pl.struct(ip=pl.element(), ipMode=pl.lit("VIP")))
    balanced = new & (pl.col("type") == "LoadBalancer") & (pl.col("ingress").list.len() == 0)
    exposed = new & pl.col("type").is_in(["LoadBalancer", "NodePort"]) & pl.col("allocates")
    return frame.with_columns(
        cluster_ips=pl.when(new).then(addresses("ip")).otherwise(told),
        ingress=pl.when(balanced).then(vips).otherwise(pl.col("ingress")),
        gets_ports=exposed,
    ).with_columns(
        ports=pl.when("gets_ports")
        .then(
            pl.col("ports").list.eval(
                pl.element().struct.with_fields(
                    nodePort=pl.field("nodePort").fill_null(-pl.int_range(1, pl.len() + 1))
                )
            )
        )
        .otherwise(pl.col("ports"))
    )


def _families(listed: pl.Expr, chosen: Choices) -> pl.Expr:
    """Give the families of node ports: spec.ipFamilies, else those of the cluster IPs."""
    addresses = pl.col("cluster_ips")
    seen = addresses if chosen.is_rewritten else addresses.list.head(1)
    of_ips = seen.list.eval(
        pl.when(pl.element().str.contains(":", literal=True)).then(6).otherwise(4).unique()
    )
    named = listed.list.head(addresses.list.len()) if not chosen.is_rewritten else listed
    of_names = named.list.eval(
        pl.element().replace_strict({"IPv4": 4, "IPv6": 6}, default=None).drop_nulls()
    )
    told = pl.when(listed.list.len().fill_null(0) > 0).then(of_names).otherwise(of_ips)
    return told.cast(pl.List(pl.Int64)).list.set_intersection(list(chosen.families))


def _without_ignored(frame: pl.DataFrame, inventory: Inventory, chosen: Choices) -> pl.DataFrame:
    headless = pl.col("is_headless")
    keep = pl.col("type").is_in(_KINDS)
    labels = pl.col("labels").str
    if chosen.is_rewritten:
        headless |= labels.contains(f'"{_HEADLESS}"', literal=True)
    else:
        # ParseService leaves out what has no cluster IP, unless it has external ones
        has_external = pl.col("external_ips").list.len() > 0
        keep &= (pl.col("cluster_ips").list.len() > 0) | (
            has_external & pl.lit(chosen.replaces_kube_proxy)
        )
    frame = frame.filter(keep & ~headless)
    if chosen.node is None:
        return frame
    node = inventory.nodes.filter(node=chosen.node)["labels"].str.json_path_match(
        f"$['{_ON_NODE}']"
    )
    here = node[0] if len(node) else None
    where = pl.coalesce(
        pl.col("object").str.json_path_match(f"$.annotations['{_ON_NODE}']")
        if chosen.is_rewritten
        else pl.lit(None, pl.String),
        labels.json_path_match(f"$['{_ON_NODE}']"),
    )
    return frame.filter(where.is_null() | (where == pl.lit(here, pl.String)).fill_null(value=False))


def _ports(services: pl.DataFrame, chosen: Choices) -> pl.DataFrame:
    """Ports of services: svc, name, protocol, port, node_port.

    Up to 1.16 one port number is one frontend whatever the protocol, in 1.17 a protocol has its
    own: pkg/k8s/service.go UniquePorts. The agent keeps any of them, here the first is kept.
    """
    frame = services.select("svc", "ports").explode("ports").drop_nulls("ports").unnest("ports")
    frame = frame.filter(pl.col("port").is_not_null()).select(
        "svc",
        name=pl.col("name").fill_null(""),
        protocol=pl.col("protocol").fill_null("TCP"),
        port=pl.col("port"),
        node_port=pl.col("nodePort").fill_null(0),
    )
    if chosen.is_rewritten:
        return frame
    frame = frame.unique(["svc", "name"], keep="first", maintain_order=True)
    alike = ["svc", "port", "protocol"] if chosen.protocols else ["svc", "port"]
    return frame.unique(alike, keep="first", maintain_order=True)


def _of_addresses(
    services: pl.DataFrame, ports: pl.DataFrame, kind: str, column: str, chosen: Choices
) -> pl.DataFrame:
    """Frontends of one kind: addresses in a list column x ports."""
    rows = services
    if kind != "ExternalIPs":
        rows = rows.filter(pl.col("exposed").fill_null(kind) == kind)
    six = pl.col("address").str.contains(":", literal=True)
    return (
        rows.select("svc", address=pl.col(column))
        .explode("address")
        .filter(pl.col("address").str.contains(_LIKE_ADDRESS))
        .unique(maintain_order=True)
        .with_columns(family=pl.when(six).then(6).otherwise(4).cast(pl.Int64))
        .filter(pl.col("family").is_in(chosen.families))
        .join(ports, on="svc", how="inner", maintain_order="left_right")
        .select("svc", "address", "family", "port", "protocol", "name", kind=pl.lit(kind))
    )


def _outside(services: pl.DataFrame, ports: pl.DataFrame, chosen: Choices) -> list[pl.DataFrame]:
    """Frontends for traffic from outside, and without kube-proxy replacement what stays of them."""
    external = _of_addresses(services, ports, "ExternalIPs", "external_ips", chosen)
    if not chosen.replaces_kube_proxy:
        return [external] if chosen.is_rewritten else []
    balanced = services
    if chosen.is_rewritten:
        balanced = services.filter(pl.col("type") == "LoadBalancer")
    return [
        _of_addresses(balanced, ports, "LoadBalancer", "lb_ips", chosen),
        external,
        _of_node(services, ports, chosen),
    ]


def _of_node(services: pl.DataFrame, ports: pl.DataFrame, chosen: Choices) -> pl.DataFrame:
    """Frontends of node ports: each node address of the family, and the surrogate."""
    known = [
        (family, address)
        for family in chosen.families
        for address in (*chosen.addresses[family], _SURROGATES[family])
    ]
    schema = {"family": pl.Int64, "address": pl.String}
    addresses = pl.DataFrame(known, schema=schema, orient="row").unique(maintain_order=True)
    rows = services.filter(pl.col("type").is_in(["NodePort", "LoadBalancer"]))
    rows = rows.filter(pl.col("exposed").fill_null("NodePort") == "NodePort")
    families = rows.select("svc", family="families").explode("family").drop_nulls()
    # What an API server is to assign is negative, and not that of another service
    assigned = pl.col("node_port") - 65536 * pl.col("svc").cast(pl.Int64)
    number = pl.when(pl.col("node_port") > 0).then("node_port").otherwise(assigned)
    return (
        families.join(addresses, on="family", how="inner", maintain_order="left_right")
        .join(ports.filter(pl.col("node_port") != 0), on="svc", how="inner")
        .select(
            "svc",
            "address",
            "family",
            number.alias("port"),
            "protocol",
            "name",
            kind=pl.lit("NodePort"),
        )  # fmt: skip
    )


def _scoped(made: pl.DataFrame, services: pl.DataFrame, chosen: Choices) -> pl.DataFrame:
    """Add the inner scope where one policy is Local, and what a frontend has of its service."""
    columns = ["svc", "namespace", "service", "two_scopes", "external_local", "internal_local",
               "affinity", "maglev", "health_port", "is_wild", "ranges"]  # fmt: skip
    frame = made.join(services.select(columns), on="svc", how="left", maintain_order="left")
    twice = frame.filter(pl.col("two_scopes") & pl.col("kind").is_in(["LoadBalancer", "NodePort"]))
    frame = pl.concat(
        [
            frame.with_columns(scope=pl.lit("external")),
            twice.with_columns(scope=pl.lit("internal")),
        ]
    )
    is_inner = (pl.col("kind") == "ClusterIP") | (pl.col("scope") == "internal")
    kind = pl.col("kind")
    outer = (kind != "ClusterIP") | pl.lit(chosen.external_cluster_ip)
    is_surrogate = pl.col("address").is_in(list(_SURROGATES.values()))
    if chosen.annotated_algorithm:
        outer = pl.lit(value=True)
    checked = kind == "LoadBalancer"
    if chosen.source_ranges_everywhere:
        checked = pl.lit(value=True)
    ranges = frame.select("svc", "ranges").unique("svc", maintain_order=True)
    return (
        frame.drop("ranges")
        .join(source_ranges(ranges), on=["svc", "family"], how="left")
        .with_columns(
            is_local=pl.when(is_inner).then("internal_local").otherwise("external_local"),
            maglev=pl.col("maglev") & outer & ~is_surrogate,
            ranges=pl.when(checked & pl.lit(chosen.source_ranges))
            .then("ranges")
            .otherwise(0)
            .fill_null(0)
            .cast(pl.Int64),
        )
    )


def _with_health_checks(
    frame: pl.DataFrame, services: pl.DataFrame, chosen: Choices
) -> pl.DataFrame:
    """Add a frontend an address for the health checks of outer load balancers, where asked for."""
    if not chosen.health_check_addresses:
        return frame
    checked = frame.filter(
        (pl.col("kind") == "LoadBalancer") & (pl.col("scope") == "external") & pl.col("is_local")
        & (pl.col("health_port") > 0)
    )  # fmt: skip
    return pl.concat(
        [
            frame,
            checked.with_columns(
                kind=pl.lit("HealthCheck"), port=pl.col("health_port"), protocol=pl.lit("TCP"),
                name=pl.lit(""), ranges=pl.lit(0, pl.Int64), affinity=pl.lit(value=False),
                is_wild=pl.lit(value=False),
            ).unique(["svc", "address"], maintain_order=True),
        ]
    )  # fmt: skip


def _once(frame: pl.DataFrame, chosen: Choices) -> pl.DataFrame:
    """Keep one frontend an address, port and scope (and protocol).

    Up to 1.17 the one written last stays. From 1.18 on a service of which another one owns a
    frontend is refused whole; node ports give way to what has the address for itself.
    """
    keys = ["address", "port", "scope", *(["protocol"] if chosen.protocols else [])]
    order = _REWRITTEN_ORDER if chosen.is_rewritten else _ORDER
    rank = pl.col("kind").replace_strict(order, default=9)
    if not chosen.is_rewritten:
        sorted_ = frame.with_columns(rank=rank).sort("svc", "rank", maintain_order=True)
        return sorted_.unique(keys, keep="last", maintain_order=True).drop("rank")
    primary = frame.filter(pl.col("kind") != "NodePort")
    owners = primary.group_by(keys).agg(owner=pl.col("svc").min())
    conflict = primary.join(owners, on=keys).filter(pl.col("svc") != pl.col("owner"))["svc"]
    kept = frame.filter(~pl.col("svc").is_in(conflict.implode()))
    return (
        kept.with_columns(rank=rank, gives_way=pl.col("kind") == "NodePort")
        .sort("gives_way", "svc", pl.col("rank").neg(), maintain_order=True)
        .unique(keys, keep="first", maintain_order=True)
        .drop("rank", "gives_way")
    )
