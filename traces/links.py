"""Link layers of captures: where in a frame the network layer begins, and which protocol it is.

    array      (bytes,) uint8      the frames, and behind them at least PADDING zeros
    at, end    (packets,) int64    a header begins at byte `at` of the array, the frame ends before byte `end`
    ethertype  (packets,) uint16   what is carried: IPV4, IPV6, ARP, MPLS, others of IEEE 802; 0 = none of these

Formats: the link-layer header types of tcpdump.org; IEEE 802.1Q (VLAN), 802.2 (LLC and SNAP), 802.11 and radiotap.org;
RFC 1661, 1662 and 1332 (PPP), RFC 2516 (PPPoE); pflog(4) of the BSDs; Linux nfnetlink_log.h (NFLOG).
Each reader takes all frames at once. Imports numpy.
"""

import numpy as np

PADDING = bytes(128)  # behind the frames: a header gathered at their very end stays inside the array

# Link types (LINKTYPE_ values).
ETHERTYPE_AT = {1: (12, 14), 113: (14, 16), 138: (16, 18), 276: (0, 20)}  # Ethernet, Linux cooked v1, IEEE 1394, v2
LOOPBACK = (0, 108)  # BSD: four bytes of address family, in the writer's byte order or the network's
RAW, RAW_IPV4, RAW_IPV6 = (12, 14, 101), 228, 229
HEADER_BEFORE_IP = {109: 12}  # OpenBSD enc
LLC_AT = {10: 13, 100: 0}  # FDDI, ATM
TOKEN_RING, PFLOG, NFLOG = 6, 117, 239
PPP_AT = {9: 0, 51: 6, 166: 2, 204: 1}  # PPP, PPPoE, PPP of pppd and of others with the direction in front
HDLC = (50, 104)  # PPP in HDLC framing, Cisco HDLC
WIFI, PRISM, RADIOTAP, AVS, PPI = 105, 119, 127, 163, 192
SUPPORTED = {*ETHERTYPE_AT, *LOOPBACK, *RAW, RAW_IPV4, RAW_IPV6, *HEADER_BEFORE_IP, *LLC_AT, TOKEN_RING, PFLOG, NFLOG,
             *PPP_AT, *HDLC, WIFI, PRISM, RADIOTAP, AVS, PPI}  # fmt: skip
EXPECTED = "Ethernet, raw IP, Linux cooked, BSD loopback, PPP, HDLC, IEEE 802.11, NFLOG, pflog, FDDI, Token Ring or ATM"
UNSUPPORTED = {
    107: "Frame Relay", 187: "Bluetooth HCI", 189: "Linux USB", 195: "IEEE 802.15.4", 220: "Linux USB",
    227: "CAN bus", 249: "USBPcap", 253: "Linux netlink",
}  # fmt: skip

IPV4, IPV6, ARP, MPLS, PPPOE = 0x0800, 0x86DD, 0x0806, 0x8847, 0x8864
VLAN = (0x8100, 0x88A8, 0x9100)
MPLS_MULTICAST = 0x8848
LONGEST = 1500  # up to here the field is a length, and LLC follows
MAX_VLAN_TAGS = 64
MAX_BITMAPS = 8  # of a radiotap header, behind the first
MAX_TLVS = 64  # of an NFLOG header
PAYLOAD = 9  # the type of the packet itself among them
FAMILY = np.zeros(256, np.uint16)  # BSD address family -> ethertype; that of IPv6 differs between systems
FAMILY[2] = IPV4
FAMILY[[10, 23, 24, 28, 30]] = IPV6
VERSION = np.zeros(16, np.uint16)  # first four bits of a packet -> ethertype
VERSION[[4, 6]] = IPV4, IPV6
PPP = np.zeros(1 << 16, np.uint16)  # PPP protocol -> ethertype
PPP[[0x0021, 0x0057, 0x0281, 0x0283]] = IPV4, IPV6, MPLS, MPLS

U2, U4, LITTLE_U2, LITTLE_U4 = np.dtype(">u2"), np.dtype(">u4"), np.dtype("<u2"), np.dtype("<u4")


def gather(array, at, dtype):
    """The headers of type `dtype` at bytes `at`, aligned or not, of the uint8 `array`: (packets,) `dtype`."""
    everywhere = np.ndarray(array.size - dtype.itemsize + 1, f"V{dtype.itemsize}", array, strides=(1,))
    return everywhere[at].view(dtype)


def named(link_type):
    """A link type for messages: its number, and its name if it is a common one that is not supported."""
    return f"{link_type} ({UNSUPPORTED[link_type]})" if link_type in UNSUPPORTED else f"{link_type}"


def network_layer(array, at, end, link_type):
    """Ethertype and offset of what frames carry at bytes at..end-1; the offset is `end` where the frame is cut before.

    `link_type` is one number of SUPPORTED, or (packets,) of them. Returns uint16 and int64 arrays of their own.
    """
    if np.ndim(link_type):
        ethertype, inner = np.empty(at.size, np.uint16), np.empty(at.size, np.int64)
        for one in np.unique(link_type):
            rows = link_type == one
            ethertype[rows], inner[rows] = network_layer(array, at[rows], end[rows], int(one))
        return ethertype, inner
    if link_type in ETHERTYPE_AT:
        ethertype, inner = _framed(array, at, end, *ETHERTYPE_AT[link_type])
    elif link_type in LOOPBACK:
        family = gather(array, at, U4).astype(np.uint32)
        ethertype, inner = FAMILY[np.minimum(np.minimum(family, family.byteswap()), 255)], at + 4
    elif link_type in RAW:
        ethertype, inner = by_version(array, at), at
    elif link_type in (RAW_IPV4, RAW_IPV6):
        ethertype, inner = np.full(at.size, IPV4 if link_type == RAW_IPV4 else IPV6, np.uint16), at
    elif link_type in HEADER_BEFORE_IP:
        inner = np.minimum(at + HEADER_BEFORE_IP[link_type], end)
        ethertype = by_version(array, inner)
    elif link_type in LLC_AT:
        ethertype, inner = _llc(array, np.minimum(at + LLC_AT[link_type], end), end)
    elif link_type == TOKEN_RING:
        routed = array[at + 8] >> 7 == 1  # bit of the source address: a routing field follows, with its length
        ethertype, inner = _llc(array, np.minimum(at + 14 + np.where(routed, array[at + 14] & 31, 0), end), end)
    elif link_type == PFLOG:
        ethertype, inner = FAMILY[array[at + 1]], at + (array[at].astype(np.int64) + 3 & ~3)  # padded to 32 bits
    elif link_type == NFLOG:
        ethertype, inner = _nflog(array, at, end)
    elif link_type in PPP_AT:
        ethertype, inner = ppp(array, np.minimum(at + PPP_AT[link_type], end))
    elif link_type in HDLC:
        ethertype, inner = _hdlc(array, at)
    else:
        ethertype, inner = _wireless(array, at, end, link_type)
    return ethertype, np.minimum(inner, end)


def by_version(array, at):
    """The ethertype that a packet's first four bits tell: IPV4, IPV6 or 0."""
    return VERSION[array[at] >> 4]


def ethernet(array, at, end):
    """Ethertype and offset of what Ethernet frames at bytes at..end-1 carry, as in `network_layer`."""
    return network_layer(array, at, end, 1)


def tagged(array, ethertype, at, end):
    """Step over VLAN tags, LLC and PPPoE, in place, where `ethertype` says that they stand at bytes at..end-1."""
    rows = np.flatnonzero((ethertype != IPV4) & (at < end))  # nearly always few
    for _ in range(MAX_VLAN_TAGS):
        rows = rows[(ethertype[rows] != IPV4) & (at[rows] < end[rows])]
        vlan = rows[np.isin(ethertype[rows], VLAN)]
        if not vlan.size:
            break
        ethertype[vlan] = gather(array, at[vlan] + 2, U2)
        at[vlan] += 4
    short = rows[ethertype[rows] <= LONGEST]
    if short.size:
        ethertype[short], at[short] = _llc(array, at[short], end[short])
    session = rows[ethertype[rows] == PPPOE]
    if session.size:
        ethertype[session], at[session] = ppp(array, np.minimum(at[session] + 6, end[session]))
    ethertype[rows[ethertype[rows] == MPLS_MULTICAST]] = MPLS
    return ethertype, at


def ppp(array, at):
    """Ethertype and offset of what PPP frames carry, with or without the address and control bytes of HDLC framing and
    with a protocol of one byte or two."""
    at = at + 2 * ((array[at] == 0xFF) & (array[at + 1] == 3))
    short = array[at] & 1
    return PPP[gather(array, at, U2) >> 8 * short], at + 2 - short


def _framed(array, at, end, where, size):
    """Frames with an ethertype at byte `where` of a header of `size` bytes."""
    ethertype, inner = gather(array, at + where, U2).astype(np.uint16), at + size
    return tagged(array, ethertype, inner, end)


def _llc(array, at, end):
    """IEEE 802.2: SNAP (RFC 1042) with an ethertype, or IP by its own address; anything else is 0."""
    head = gather(array, at, U4)  # destination, source, control; of SNAP also the first byte of the organization
    snap = (head == 0xAAAA0300) & np.isin(gather(array, at + 4, U2), (0x0000, 0x00F8))
    plain = head >> 8 == 0x060603
    ethertype = np.where(snap, gather(array, at + 6, U2), np.where(plain, IPV4, 0)).astype(np.uint16)
    return ethertype, np.minimum(at + np.where(plain, 3, 8), end)


def _hdlc(array, at):
    """PPP in HDLC framing, or Cisco's: address, control, ethertype."""
    ethertype, inner = ppp(array, at)
    cisco = array[at] != 0xFF
    ethertype[cisco] = gather(array, at[cisco] + 2, U2)
    return ethertype, np.where(cisco, at + 4, inner)


def _nflog(array, at, end):
    """Linux NFLOG: four bytes, then fields of length, type, value; types of one byte tell the writer's byte order."""
    inner, found = np.minimum(at + 4, end), np.zeros(at.size, bool)
    rows = np.arange(at.size)
    for _ in range(MAX_TLVS):
        rows = rows[inner[rows] < end[rows]]
        if not rows.size:
            break
        here = inner[rows]
        big = array[here + 2] == 0
        length = np.where(big, gather(array, here, U2), gather(array, here, LITTLE_U2)).astype(np.int64)
        here_is = array[here + 2] + array[here + 3] == PAYLOAD
        found[rows[here_is]] = True
        step = np.where(here_is, 4, np.maximum(length, 4) + 3 & ~3)
        inner[rows] = np.minimum(here + step, end[rows])
        rows = rows[~here_is]
    return np.where(found | (inner >= end), by_version(array, inner), 0).astype(np.uint16), inner


def _wireless(array, at, end, link_type):
    """IEEE 802.11 data frames behind none or one of the headers that drivers put in front of them."""
    padded = np.zeros(at.size, bool)
    if link_type in (PRISM, AVS):
        length = gather(array, at + 4, U4).astype(np.uint32)
        at = at + np.minimum(length, length.byteswap())
    elif link_type in (RADIOTAP, PPI):
        length = gather(array, at + 2, LITTLE_U2).astype(np.int64)
        if link_type == PPI:
            return _ppi(array, at, end, length)
        padded = _is_padded(array, at, end)
        at = at + length
    at = np.minimum(at, end)
    kind, flags = array[at], array[at + 1]
    quality = kind >> 7 == 1  # a QoS frame: two more bytes, and four with HT control
    size = 24 + 6 * (flags & 3 == 3) + quality * (2 + 4 * (flags >> 7).astype(np.int64))
    several = quality & (array[np.minimum(at + size - 2, end)] >> 7 == 1) & (flags >> 7 == 0)  # aggregated frames
    data = (kind & 0x4F == 0x08) & (flags & 0x40 == 0)  # a data frame that holds data, not encrypted
    cut = at + np.where(data, size, 2) > end
    data &= ~several
    inner = np.minimum(at + np.where(padded, size + 3 & ~3, size), end)
    ethertype, behind = _llc(array, inner, end)
    return np.where(data, ethertype, 0).astype(np.uint16), np.where(cut, end, np.where(data, behind, at))


def _is_padded(array, at, end):
    """Does the radiotap header say that the frame's header is padded to 32 bits? Its flags follow the bitmaps."""
    present = gather(array, at + 4, LITTLE_U4)
    flags, more = np.minimum(at + 8, end), present >> 31 == 1
    for _ in range(MAX_BITMAPS):
        word = gather(array, flags, LITTLE_U4)
        flags, more = np.where(more, np.minimum(flags + 4, end), flags), more & (word >> 31 == 1)
    flags = flags + np.where(present & 1 == 1, -(flags - at) % 8 + 8, 0)  # behind a clock of eight bytes, aligned
    return (present & 2 == 2) & (array[np.minimum(flags, end)] & 0x20 == 0x20)


def _ppi(array, at, end, length):
    """Per-packet information: its length, then the link type of what follows, other than PPI."""
    link_type = gather(array, at + 4, LITTLE_U4).astype(np.int64)
    inner = np.minimum(at + length, end)
    known = np.isin(link_type, list(SUPPORTED - {PPI})) & (inner < end)
    ethertype, behind = np.zeros(at.size, np.uint16), np.where(at + 8 > end, end, np.minimum(at, end - 1))
    ethertype[known], behind[known] = network_layer(array, inner[known], end[known], link_type[known])
    return ethertype, np.where(known | (inner < end), behind, end)
