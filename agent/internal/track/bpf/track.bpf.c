/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* Marks the granules of tracked disks that a completed request may have changed.
 *
 * A request is marked when it completes, before its submitter can learn of it. Together with a reader that
 * clears a mark first and reads the disk afterwards, no write can be missed. What cannot be marked exactly
 * is counted as `unmarked`: user space must then compare the whole disk.
 *
 * The kernel may skip a program: from 6.1 when it is already running on the same CPU and an interrupt completes
 * another request, and some kernels run no program while certain tasks are current, whatever an interrupt then does.
 * So a request is also noted when it is issued, and the note is removed when its completion was seen. A reader takes
 * what is still noted as changed, too. A write is lost only if both events are skipped, and then the counters tell. */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

/* Request operations; these numbers have not changed since 4.10. */
#define REQ_OP_BITS 8
#define REQ_OP_READ 0
#define REQ_OP_DISCARD 3
#define REQ_OP_SECURE_ERASE 5
#define REQ_OP_PASSTHROUGH 32 /* first of SCSI_IN, SCSI_OUT, DRV_IN, DRV_OUT; odd ones write */

#define SECTOR_SHIFT 9
#define MINOR_BITS 20

/* NVMe allows 256 ranges in one discard; a longer chain is counted as unmarked. */
#define MAX_BIOS 256
/* 64 x 65 words cover 4 GiB, the most that a request's 32-bit length can name, at 16 KiB granules from any start. */
#define WORDS_PER_CHUNK 64
#define MAX_CHUNKS 65

#define MAX_NOTES 8192 /* requests issued and not completed, over all tracked disks */

struct disk {
	u64 base;     /* index of the disk's first word in marks */
	u64 granules;
	u64 diskseq;  /* user space only: tells a reused device number from the same disk */
	u32 shift;    /* sectors to granules */
	u32 index;
	u32 layout;   /* user space only */
	u32 ranges;   /* for the classic programs only */
};

struct counts {
	u64 written;     /* sectors of everything that is neither read nor discard */
	u64 discarded;   /* sectors */
	u64 requests;
	u64 passthrough; /* commands that may have written, with a range that only the driver understands */
	u64 unmarked;    /* requests that were not marked fully */
	u64 recovered;   /* sectors of requests whose completion was not seen, marked when their memory was used again */
	u64 unnoted;     /* issued requests for which there was no room */
	u64 queued;      /* sectors of discards, counted by the classic programs only */
};

/* What a request will change when it completes. */
struct note {
	u64 issued;  /* CLOCK_MONOTONIC, ns */
	u64 first;   /* granules, both ends included */
	u64 last;
	u64 sectors;
	u64 base;    /* of the disk */
	u32 index;   /* of the disk */
	u32 requests; /* these two for the classic programs only */
	u64 queued;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1); /* set by user space */
	__type(key, u32);
	__type(value, u64);
} marks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* set by user space */
	__type(key, u32);       /* major << MINOR_BITS | minor */
	__type(value, struct disk);
} disks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1); /* set by user space */
	__type(key, u32);       /* index of the disk */
	__type(value, struct counts);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_NOTES);
	__type(key, u64); /* address of the request */
	__type(value, struct note);
} notes SEC(".maps");

/* A request's note lies in the slot that its address hashes to; when another one has that, in the map above. A slot costs
 * a tenth of the map's locks. */
#define SLOT_BITS 13

struct slot { /* as long as a cache line */
	u64 address; /* of the request; 0: free */
	struct note note; /* valid while issued is not 0: that is written last and cleared first */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1 << SLOT_BITS);
	__type(key, u32);
	__type(value, struct slot);
} slots SEC(".maps");

static __attribute__((always_inline)) struct slot *slot_of(u64 address)
{
	u32 low = address; /* the verifier lets nobody compute with the whole of a pointer */
	u32 key;

	asm volatile("" : "+w"(low)); /* nor may the compiler */
	key = low * 0x9e3779b1U >> (32 - SLOT_BITS); /* Fibonacci hashing: requests lie in arrays, at equal distances */

	return bpf_map_lookup_elem(&slots, &key);
}

/* On a processor that may make stores seen in another order than they were made (set by user space). */
const volatile u32 weakly_ordered = 0;

/* forget removes the note of a request. */
static __attribute__((always_inline)) void forget(u64 address)
{
	struct slot *s = slot_of(address);

	if (!s || s->address != address) {
		bpf_map_delete_elem(&notes, &address);
		return;
	}
	/* First the note, then the slot: who takes the slot in between would lose its own note. */
	if (weakly_ordered)
		__sync_lock_test_and_set(&s->note.issued, 0);
	else
		s->note.issued = 0;
	barrier();
	s->address = 0;
}

/* mark_chunk sets the bits first..last, which start in the word `word` and span at most WORDS_PER_CHUNK words.
 * The functions that loop are global: the verifier then checks each of them once, and not once per caller's loop. */
__attribute__((noinline)) int mark_chunk(u64 base, u64 first, u64 last)
{
	u64 word = first >> 6;
	u64 end = last >> 6;

	for (int i = 0; i < WORDS_PER_CHUNK; i++) {
		u64 mask = ~0ULL;
		u32 key = base + word;
		u64 *bits;

		if (word > end)
			break;
		if (word == first >> 6)
			mask <<= first & 63;
		if (word == end)
			mask &= ~0ULL >> (63 - (last & 63));
		bits = bpf_map_lookup_elem(&marks, &key);
		if (!bits)
			return 1;
		/* The load spares a hot word the locked write; it is safe because the reader swaps before it reads. */
		if ((*bits & mask) != mask)
			__sync_fetch_and_or(bits, mask);
		word++;
	}
	return 0;
}

/* mark_granules marks first..last and returns 0 when all were marked. */
__attribute__((noinline)) int mark_granules(u64 base, u64 first, u64 last)
{
	for (int i = 0; i < MAX_CHUNKS; i++) {
		u64 chunk_last = (((first >> 6) + WORDS_PER_CHUNK) << 6) - 1;

		if (chunk_last > last)
			chunk_last = last;
		if (mark_chunk(base, first, chunk_last))
			return 1;
		if (chunk_last == last)
			return 0;
		first = chunk_last + 1;
	}
	return 1;
}

/* mark_range marks the granules, of `1 << shift` sectors, that the sectors first..last lie in. */
__attribute__((noinline)) int mark_range(u64 base, u64 granules, u32 shift, u64 first, u64 last)
{
	int beyond = 0;

	first >>= shift & 63;
	last >>= shift & 63;
	if (first >= granules)
		return 1;
	if (last >= granules) { /* the disk has grown */
		last = granules - 1;
		beyond = 1;
	}
	return mark_granules(base, first, last) | beyond;
}

static __attribute__((always_inline)) int mark_sectors(struct disk *d, u64 sector, u64 sectors)
{
	if (!sectors)
		return 0;
	return mark_range(d->base, d->granules, d->shift, sector, sector + sectors - 1);
}

/* mark_bios marks every bio of a discard: a driver may merge discards that are not adjacent, and the request's
 * own sector and length then name the wrong range. It may mark parts that complete later: these are marked twice. */
static __attribute__((always_inline)) int mark_bios(struct disk *d, struct bio *bio)
{
	int bad = 0;

	for (int i = 0; i < MAX_BIOS; i++) {
		if (!bio)
			return bad;
		bad |= mark_sectors(d, bio->bi_iter.bi_sector, bio->bi_iter.bi_size >> SECTOR_SHIFT);
		bio = bio->bi_next;
	}
	return bad | (bio != 0);
}

static __attribute__((always_inline)) struct gendisk *disk_of(struct request *rq)
{
	struct request___with_disk *old = (void *)rq;

	if (field_exists(old->rq_disk))
		return old->rq_disk;
	return rq->q->disk;
}

/* find returns the tracked disk of a request, or NULL. */
static __attribute__((always_inline)) struct disk *find(struct request *rq)
{
	struct gendisk *gd = disk_of(rq);
	u32 key;

	if (!gd) /* an admin command */
		return 0;
	key = (u32)gd->major << MINOR_BITS | (u32)gd->first_minor;
	return bpf_map_lookup_elem(&disks, &key);
}

static __attribute__((always_inline)) u32 op_of(struct request *rq)
{
	return rq->cmd_flags & ((1 << REQ_OP_BITS) - 1);
}

static __attribute__((always_inline)) int is_discard(u32 op)
{
	return op == REQ_OP_DISCARD || op == REQ_OP_SECURE_ERASE;
}

SEC("tp_btf/block_rq_complete") int rehost_complete(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	u32 bytes = ctx[2];
	u64 sectors = ((u64)bytes + 511) >> SECTOR_SHIFT;
	u64 address = (u64)rq;
	u32 op = op_of(rq);
	struct counts *c;
	struct disk *d;
	u32 key;
	int bad;

	if (op == REQ_OP_READ)
		return 0;
	d = find(rq);
	if (!d)
		return 0;
	key = d->index;
	c = bpf_map_lookup_elem(&counters, &key);
	if (!c)
		return 0;
	if (op >= REQ_OP_PASSTHROUGH) {
		if (op & 1)
			__sync_fetch_and_add(&c->passthrough, 1);
		return 0;
	}
	if (!bytes) /* a pure flush, or the end of a flush sequence whose data was marked before */
		return 0;
	if (is_discard(op)) {
		bad = rq->bio ? mark_bios(d, rq->bio) : mark_sectors(d, rq->__sector, sectors);
		__sync_fetch_and_add(&c->discarded, sectors);
	} else {
		bad = mark_sectors(d, rq->__sector, sectors);
		__sync_fetch_and_add(&c->written, sectors);
	}
	__sync_fetch_and_add(&c->requests, 1);
	if (bad)
		__sync_fetch_and_add(&c->unmarked, 1);
	if (bytes >= rq->__data_len) /* else it is a part, and the rest is still to come */
		forget(address);
	return 0;
}

/* span_bios widens a note to all bios of a discard, which need not be adjacent. */
static __attribute__((always_inline)) void span_bios(struct disk *d, struct bio *bio, struct note *n)
{
	for (int i = 0; i < MAX_BIOS; i++) {
		u64 first, last;

		if (!bio)
			return;
		first = bio->bi_iter.bi_sector;
		last = (first + (bio->bi_iter.bi_size >> SECTOR_SHIFT) - 1) >> (d->shift & 63);
		first >>= d->shift & 63;
		if (first < n->first)
			n->first = first;
		if (last > n->last)
			n->last = last;
		bio = bio->bi_next;
	}
}

/* The argument is the request from 5.11 on; user space checks that the kernel's event has just this one. */
SEC("tp_btf/block_rq_issue") int rehost_issue(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	u64 address = (u64)rq;
	u32 op = op_of(rq);
	struct note n = {};
	struct note *old;
	struct counts *c;
	struct disk *d;
	struct slot *s;
	int own;
	u32 key;

	if (op == REQ_OP_READ || op >= REQ_OP_PASSTHROUGH || !rq->__data_len)
		return 0;
	d = find(rq);
	if (!d)
		return 0;
	n.issued = bpf_ktime_get_ns();
	n.sectors = rq->__data_len >> SECTOR_SHIFT;
	n.first = rq->__sector >> (d->shift & 63);
	n.last = (rq->__sector + n.sectors - 1) >> (d->shift & 63);
	n.base = d->base;
	n.index = d->index;
	if (is_discard(op))
		span_bios(d, rq->bio, &n);
	if (n.last >= d->granules)
		n.last = d->granules - 1;
	s = slot_of(address);
	own = s && s->address == address;
	old = own ? &s->note : bpf_map_lookup_elem(&notes, &address);
	if (old && old->issued) { /* its completion was skipped */
		key = old->index;
		c = bpf_map_lookup_elem(&counters, &key);
		if (c) {
			__sync_fetch_and_add(&c->recovered, old->sectors);
			if (mark_granules(old->base, old->first, old->last))
				__sync_fetch_and_add(&c->unmarked, 1);
		}
		if (!own) /* the new note may get the slot, and this one would be counted for ever */
			bpf_map_delete_elem(&notes, &address);
	}
	if (s && (own || !__sync_val_compare_and_swap(&s->address, 0, address))) {
		s->note.issued = 0;
		barrier();
		s->note.first = n.first;
		s->note.last = n.last;
		s->note.sectors = n.sectors;
		s->note.base = n.base;
		s->note.index = n.index;
		__sync_lock_test_and_set(&s->note.issued, n.issued); /* orders: a reader that sees it sees the rest */
		return 0;
	}
	key = d->index;
	if (bpf_map_update_elem(&notes, &address, &n, 0)) {
		c = bpf_map_lookup_elem(&counters, &key);
		if (c)
			__sync_fetch_and_add(&c->unnoted, 1);
	}
	return 0;
}

/* A request that the driver gives back is issued again later, and noted again. */
SEC("tp_btf/block_rq_requeue") int rehost_requeue(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];

	if (op_of(rq) != REQ_OP_READ && find(rq))
		forget((u64)rq);
	return 0;
}

/* Not loaded, except for the mutant that shows why completion is what counts: it marks and counts at issue, so that a
 * granule can be drained and read before the write has reached the disk. */
SEC("tp_btf/block_rq_issue") int rehost_mutant(u64 *ctx)
{
	struct request *rq = (void *)ctx[0];
	u64 sectors = rq->__data_len >> SECTOR_SHIFT;
	u32 op = op_of(rq);
	struct counts *c;
	struct disk *d;
	u32 key;

	if (op == REQ_OP_READ || op >= REQ_OP_PASSTHROUGH || !sectors)
		return 0;
	d = find(rq);
	if (!d)
		return 0;
	key = d->index;
	c = bpf_map_lookup_elem(&counters, &key);
	if (!c)
		return 0;
	mark_sectors(d, rq->__sector, sectors);
	__sync_fetch_and_add(is_discard(op) ? &c->discarded : &c->written, sectors);
	__sync_fetch_and_add(&c->requests, 1);
	return 0;
}
