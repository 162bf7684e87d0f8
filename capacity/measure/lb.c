// A small XDP/tc load balancer of our own, only to be run by BPF_PROG_TEST_RUN: it makes the map
// operations and header rewrites of a NodePort service on packets it varies itself, one program a
// stage, so that differences of stages are costs. It is not Cilium's datapath and does no policy,
// no FIB lookup and no device work: what it tells is a floor of a node's cost per packet.
//
// Build: clang -O2 -target bpf -mcpu=v2 -c lb.c -o lb.o   (tools/build_lb.py; no header is needed)
// The loader (loader.py) makes the maps and puts their descriptors, and numbers of the run, where
// the symbols are used.

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define INLINE static __attribute__((always_inline))
#define ANY 0ULL
#define XDP_DROP 1
#define XDP_TX 3
#define TC_OK 0
#define TC_SHOT 2

// Contexts and helper numbers: include/uapi/linux/bpf.h
struct xdp_md { u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex; };
struct skb_md { u32 skip[19]; u32 data, data_end; };
static void *(*map_lookup)(void *map, const void *key) = (void *)1;
static long (*map_update)(void *map, const void *key, const void *value, u64 flags) = (void *)2;
static u32 (*cpu_id)(void) = (void *)8;
static long (*adjust_head)(struct xdp_md *ctx, int delta) = (void *)44;

// Sizes of keys and values are those of Cilium's maps (capacity/facts/maps.csv)
struct lb_key { u32 address; u16 port; u16 slot; u8 protocol, scope, pad[2]; };
struct lb_value { u32 backend; u16 count, rev_nat; u8 flags, flags2; u16 qcount; };
struct backend { u32 address; u16 port; u8 protocol, flags; u16 cluster; u8 zone, pad; };
struct tuple { u32 daddr, saddr; u16 dport, sport; u8 protocol, flags; } __attribute__((packed, aligned(2)));
struct ct_entry { u64 rx_packets, backend, tx_packets, bytes; u32 seen, flags; u64 rest[2]; };
struct nat_entry { u64 created, seen, rest[2]; u32 address; u16 port, pad; };
struct revnat { u32 address; u16 port; } __attribute__((packed, aligned(2)));

// What a CPU counts: packets, and why a packet was given up or made an entry
struct state { u64 next, packets, failed, created, hits, pad[3]; };

extern int state_map, service_map, maglev_map, backend_map, ct_map, nat_map, revnat_map,
    op_map;
extern int flows, services, maglev_size, step;
#define MAP(name) ((void *)&name)
#define NUMBER(name) ((u64)&name)

struct eth { u8 to[6], from[6]; u16 type; };
struct ip { u8 version, tos; u16 length, id, fragment; u8 ttl, protocol; u16 check; u32 saddr, daddr; };
struct tcp { u16 sport, dport; u32 seq, ack; u16 flags, window, check, urgent; };

#define HEADERS (sizeof(struct eth) + sizeof(struct ip) + sizeof(struct tcp))

struct packet {
  struct eth *eth;
  struct ip *ip;
  struct tcp *tcp;
  struct state *state;
  u32 flow;
};

enum stage { BASE, SERVICE, CT, SNAT, REPLY, DSR, TUNNEL };

INLINE u16 swap(u16 value) { return __builtin_bswap16(value); }

// One's complement sum of a changed 32-bit word, RFC 1624 equation 3
INLINE u16 patch(u16 check, u32 from, u32 to) {
  u32 sum = (u16)~check + (u16)~from + (u16)~(from >> 16) + (u16)to + (u16)(to >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  sum = (sum & 0xffff) + (sum >> 16);
  return ~sum;
}

INLINE u32 mix(u32 value) {  // finalizer of MurmurHash3, public domain
  value ^= value >> 16;
  value *= 0x85ebca6b;
  value ^= value >> 13;
  value *= 0xc2b2ae35;
  return value ^ (value >> 16);
}

// Each CPU walks through flows of its own, as receive-side scaling gives them
INLINE int open_packet(void *data, void *end, struct packet *p) {
  u32 zero = 0;
  p->state = map_lookup(MAP(state_map), &zero);
  if (!p->state || data + HEADERS > end) return -1;
  p->eth = data;
  p->ip = data + sizeof(struct eth);
  p->tcp = data + sizeof(struct eth) + sizeof(struct ip);
  if (p->eth->type != swap(0x0800) || p->ip->protocol != 6) return -1;
  u64 next = p->state->next;
  p->state->next = next + 1 >= NUMBER(flows) ? 0 : next + 1;
  p->state->packets++;
  p->flow = (u32)next + (cpu_id() << 25);
  p->ip->saddr = 0x0a000000 + (p->flow >> 10);
  p->tcp->sport = 1024 + (p->flow & 1023);
  p->ip->daddr = 0xc0a80000 + mix(p->flow) % NUMBER(services);
  p->tcp->dport = swap(80);
  return 0;
}

INLINE struct lb_value *find_service(struct packet *p) {
  struct lb_key key = {p->ip->daddr, p->tcp->dport, 0, 6, 0, {0, 0}};
  return map_lookup(MAP(service_map), &key);
}

INLINE u32 choose(struct packet *p, struct lb_value *service) {
  u32 number = service->rev_nat, zero = 0;
  void *inner = map_lookup(MAP(maglev_map), &number);
  u32 *table = inner ? map_lookup(inner, &zero) : 0;
  u64 slot = mix(p->ip->saddr ^ p->tcp->sport) % NUMBER(maglev_size);
  __asm__ volatile("" : "+r"(slot));  // else clang drops the bound that the verifier needs
  if (!table || slot >= NUMBER(maglev_size)) return 0;
  return table[slot];
}

INLINE void tuple_of(struct packet *p, struct tuple *t, u8 flags) {
  t->daddr = p->ip->daddr;
  t->saddr = p->ip->saddr;
  t->dport = p->tcp->dport;
  t->sport = p->tcp->sport;
  t->protocol = 6;
  t->flags = flags;
}

// Finds the entry or makes it; gives the backend it holds
INLINE u32 track(struct packet *p, u8 flags, u32 backend) {
  struct tuple key;
  tuple_of(p, &key, flags);
  struct ct_entry *entry = map_lookup(MAP(ct_map), &key);
  if (entry) {
    p->state->hits++;
    entry->tx_packets++;
    entry->bytes += 64;
    return entry->backend;
  }
  struct ct_entry made = {.backend = backend, .tx_packets = 1, .bytes = 64};
  if (map_update(MAP(ct_map), &key, &made, ANY)) return 0;
  p->state->created++;
  return backend;
}

INLINE void rewrite_target(struct packet *p, u32 address, u16 port) {
  u32 was = p->ip->daddr;
  p->ip->check = patch(p->ip->check, was, address);
  p->tcp->check = patch(patch(p->tcp->check, was, address), p->tcp->dport, port);
  p->ip->daddr = address;
  p->tcp->dport = port;
}

INLINE void rewrite_origin(struct packet *p, u32 address, u16 port) {
  u32 was = p->ip->saddr;
  p->ip->check = patch(p->ip->check, was, address);
  p->tcp->check = patch(patch(p->tcp->check, was, address), p->tcp->sport, port);
  p->ip->saddr = address;
  p->tcp->sport = port;
}

INLINE void turn(struct packet *p) {
  u8 keep[6];
  __builtin_memcpy(keep, p->eth->to, 6);
  __builtin_memcpy(p->eth->to, p->eth->from, 6);
  __builtin_memcpy(p->eth->from, keep, 6);
  p->ip->ttl = 64;
}

// Source NAT: the mapping of this flow, found or made, with its reverse
INLINE int translate(struct packet *p) {
  struct tuple key;
  tuple_of(p, &key, 0);
  struct nat_entry *entry = map_lookup(MAP(nat_map), &key);
  if (entry) {
    p->state->hits++;
    rewrite_origin(p, entry->address, entry->port);
    return 0;
  }
  struct nat_entry made = {.address = 0xac100001, .port = 32768 + (p->flow & 32767)};
  struct tuple back = {made.address, key.daddr, made.port, key.dport, 6, 1};
  struct nat_entry reverse = {.address = key.saddr, .port = key.sport};
  if (map_update(MAP(nat_map), &back, &reverse, ANY)) return -1;
  if (map_update(MAP(nat_map), &key, &made, ANY)) return -1;
  p->state->created++;
  rewrite_origin(p, made.address, made.port);
  return 0;
}

INLINE int forward(struct packet *p, enum stage stage) {
  struct lb_value *service = find_service(p);
  if (!service) return -1;
  u32 number;
  if (stage == SERVICE) {
    number = choose(p, service);
  } else {
    // Service scope first; only a new connection asks Maglev
    struct tuple key;
    tuple_of(p, &key, 2);
    struct ct_entry *entry = map_lookup(MAP(ct_map), &key);
    number = entry ? entry->backend : track(p, 2, choose(p, service));
    if (entry) {
      p->state->hits++;
      entry->rx_packets++;
    }
  }
  struct backend *to = number ? map_lookup(MAP(backend_map), &number) : 0;
  if (!to) return -1;
  rewrite_target(p, to->address, to->port);
  if (stage == SNAT) {
    if (!track(p, 0, number) || translate(p)) return -1;
  }
  turn(p);
  return 0;
}

// The way back of SNAT: mapping, connection, and the service's own address
INLINE int back(struct packet *p) {
  struct tuple key;
  tuple_of(p, &key, 1);
  struct nat_entry *entry = map_lookup(MAP(nat_map), &key);
  if (!entry) {
    struct nat_entry made = {.address = p->ip->saddr, .port = p->tcp->sport};
    if (map_update(MAP(nat_map), &key, &made, ANY)) return -1;
    p->state->created++;
    entry = map_lookup(MAP(nat_map), &key);
    if (!entry) return -1;
  } else {
    p->state->hits++;
  }
  rewrite_target(p, entry->address, entry->port);
  if (!track(p, 1, 1)) return -1;
  u32 number = 1 + mix(p->flow) % NUMBER(services);
  struct revnat *service = map_lookup(MAP(revnat_map), &number);
  if (!service) return -1;
  rewrite_origin(p, service->address, service->port);
  turn(p);
  return 0;
}

INLINE int give_up(struct packet *p, int verdict) {
  if (p->state) p->state->failed++;
  return verdict;
}

INLINE int run(void *data, void *end, enum stage stage, int good, int bad) {
  struct packet p = {};
  if (open_packet(data, end, &p)) return give_up(&p, bad);
  if (stage == BASE) {
    turn(&p);
    return good;
  }
  if (stage == REPLY ? back(&p) : forward(&p, stage)) return give_up(&p, bad);
  return good;
}

#define XDP(name, stage)                                                                     \
  SEC("xdp/" #name) int xdp_##name(struct xdp_md *ctx) {                                     \
    return run((void *)(long)ctx->data, (void *)(long)ctx->data_end, stage, XDP_TX, XDP_DROP); \
  }
#define TC(name, stage)                                                                      \
  SEC("tc/" #name) int tc_##name(struct skb_md *ctx) {                                       \
    return run((void *)(long)ctx->data, (void *)(long)ctx->data_end, stage, TC_OK, TC_SHOT);   \
  }

XDP(base, BASE)
XDP(service, SERVICE)
XDP(ct, CT)
XDP(snat, SNAT)
XDP(reply, REPLY)
TC(base, BASE)
TC(service, SERVICE)
TC(ct, CT)
TC(snat, SNAT)
TC(reply, REPLY)

// Grows the packet by an IP option (DSR) or an outer header (tunnel) and shrinks it again, as the
// same buffer is given to the next run: twice the cost of one adjustment.
INLINE int encapsulate(struct xdp_md *ctx, int room, enum stage stage) {
  int verdict = run((void *)(long)ctx->data, (void *)(long)ctx->data_end, CT, XDP_TX, XDP_DROP);
  if (verdict != XDP_TX) return verdict;
  if (adjust_head(ctx, -room)) return XDP_DROP;
  void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
  if (data + HEADERS + room > end) return XDP_DROP;
  struct eth *eth = data;
  struct ip *outer = data + sizeof(struct eth);
  __builtin_memcpy(eth, data + room, sizeof(struct eth));
  if (stage == TUNNEL) {
    struct ip made = {0x45, 0, swap(84), 0, 0, 64, 4, 0, 0xac100001, 0xac100002};
    u32 sum = 0;
    u16 *words = (u16 *)&made;
    for (int i = 0; i < 10; i++) sum += words[i];
    sum = (sum & 0xffff) + (sum >> 16);
    made.check = ~((sum & 0xffff) + (sum >> 16));
    __builtin_memcpy(outer, &made, sizeof(made));
  } else {
    // The inner header moves to the front, the option (type, length, port, address) follows it
    struct ip inner;
    __builtin_memcpy(&inner, data + room + sizeof(struct eth), sizeof(inner));
    inner.version = 0x47;
    __builtin_memcpy(outer, &inner, sizeof(inner));
    u32 *option = data + sizeof(struct eth) + sizeof(struct ip);
    option[0] = 0x9a080050;
    option[1] = inner.daddr;
    __asm__ volatile("" : : : "memory");  // the stores are undone below, but must be made
    inner.version = 0x45;
    __builtin_memcpy(data + room + sizeof(struct eth), &inner, sizeof(inner));
  }
  struct eth keep;
  __builtin_memcpy(&keep, eth, sizeof(keep));
  if (adjust_head(ctx, room)) return XDP_DROP;
  data = (void *)(long)ctx->data;
  end = (void *)(long)ctx->data_end;
  if (data + sizeof(struct eth) > end) return XDP_DROP;
  __builtin_memcpy(data, &keep, sizeof(keep));
  return XDP_TX;
}

SEC("xdp/dsr") int xdp_dsr(struct xdp_md *ctx) { return encapsulate(ctx, 8, DSR); }
SEC("xdp/tunnel") int xdp_tunnel(struct xdp_md *ctx) { return encapsulate(ctx, 20, TUNNEL); }

// Operations of one map alone: OPS keys a run; the map's kind and size are the loader's choice
#define OPS 16
enum op { NONE, LOOKUP, UPDATE };

INLINE int operate(struct xdp_md *ctx, enum op op) {
  u32 zero = 0;
  struct state *state = map_lookup(MAP(state_map), &zero);
  if (!state) return XDP_DROP;
  u32 flow = state->next, hits = 0;
  struct ct_entry made = {.backend = 1};
  u32 cpu = cpu_id() << 25;
  for (int i = 0; i < OPS; i++) {
    flow += NUMBER(step);
    if (flow >= NUMBER(flows)) flow -= NUMBER(flows);
    struct tuple key = {flow, cpu, 1, 2, 6, 0};
    if (op == LOOKUP)
      hits += map_lookup(MAP(op_map), &key) != 0;
    else if (op == UPDATE)
      hits += map_update(MAP(op_map), &key, &made, ANY) == 0;
    else
      hits += key.daddr >= zero;
    __asm__ volatile("" : : "r"(&key) : "memory");
  }
  state->next = flow;
  state->packets += OPS;
  state->hits += hits;
  return XDP_TX;
}

SEC("xdp/op_none") int xdp_op_none(struct xdp_md *ctx) { return operate(ctx, NONE); }
SEC("xdp/op_lookup") int xdp_op_lookup(struct xdp_md *ctx) { return operate(ctx, LOOKUP); }
SEC("xdp/op_update") int xdp_op_update(struct xdp_md *ctx) { return operate(ctx, UPDATE); }

char _license[] SEC("license") = "Dual BSD/GPL";
