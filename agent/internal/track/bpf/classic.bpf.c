/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/* The tracker for kernels without type information: the classic tracepoints of the block layer, whose fields user space
 * finds in tracefs and puts into a map. It needs nothing that 4.14 lacks: no BTF, no atomic or, no loop, no call between
 * programs. A mark is a byte, since a byte is stored without reading its neighbours.
 *
 * Marks have three levels, each 64 times coarser than the one before, so that a request of any length is marked by few
 * stores; a coarse mark stands for more than was written, never for less. See track.bpf.c for why a request is noted
 * when it is issued. Here a note's key is disk and first sector, since the events do not name the request. */
#include "kernel.h"

char LICENSE[] SEC("license") = "Dual MIT/GPL";

#define LEVEL_SHIFT 6 /* granules of a level in one of the next */
#define LEVEL_SPAN 64 /* what one request may span on a level, less one */
#define ELEMENTS 10   /* of 8 marks: enough for LEVEL_SPAN + 1 marks from any start */

#define CHUNK_SHIFT 12 /* marks in a value of the map, which user space copies as a whole where it cannot map it */
#define CHUNK_MASK ((1 << CHUNK_SHIFT) - 1)
#define CLEARED 64     /* marks that one run of rehost_clear clears */

#define MAX_NOTES 8192
#define QUEUED (1ULL << 55) /* in the key of a note: of a discard that is queued */
#define NO_SECTOR (~0ULL) /* where a passthrough command goes */

/* disk, counts and note are those of track.bpf.c; base counts elements of 8 marks here. */
struct disk {
	u64 base;
	u64 granules;
	u64 diskseq;
	u32 shift;
	u32 index;
	u32 layout;
	u32 ranges; /* that a discard may have, as its driver says */
};

struct counts {
	u64 written;
	u64 discarded;
	u64 requests;
	u64 passthrough;
	u64 unmarked;
	u64 recovered;
	u64 unnoted;
	u64 queued;
};

struct note {
	u64 issued;
	u64 first;
	u64 last;
	u64 sectors; /* that have not completed; 0: of a discard that is queued, and counted when it completes */
	u64 base;
	u32 index;
	u32 requests; /* issued and not completed, that begin at the same sector */
	u64 queued;   /* sectors of the only discard that is queued and begins there; ~0: of several */
};

/* Where an event has its fields, in bytes. */
struct fields {
	u32 dev;
	u32 sector;
	u32 nr_sector;
	u32 rwbs;
};

enum { EVENT_COMPLETE, EVENT_ISSUE, EVENT_QUEUE, EVENT_REQUEUE, EVENTS };

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, EVENTS);
	__type(key, u32);
	__type(value, struct fields);
} layout SEC(".maps");

struct chunk {
	u8 marks[1 << CHUNK_SHIFT];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE); /* without it before 5.5 */
	__uint(max_entries, 1); /* set by user space */
	__type(key, u32);
	__type(value, struct chunk);
} marks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1); /* set by user space */
	__type(key, u32);       /* device number */
	__type(value, struct disk);
} disks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1); /* set by user space */
	__type(key, u32);
	__type(value, struct counts);
} counters SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, MAX_NOTES);
	__type(key, u64); /* index of the disk << 56 | first sector, and QUEUED or not */
	__type(value, struct note);
} notes SEC(".maps");

/* What an event says. */
struct event {
	u64 sector;
	u32 dev;
	u32 sectors;
	char op; /* R, W, D, F (flush) or N (none of these) */
};

static __attribute__((always_inline)) int read_event(void *ctx, u32 which, struct event *e)
{
	struct fields *f = bpf_map_lookup_elem(&layout, &which);
	char rwbs[2] = {};

	if (!f)
		return 1;
	/* An offset is at most 255: the verifier wants to see that. */
	bpf_probe_read(&e->dev, sizeof(e->dev), ctx + (f->dev & 0xff));
	bpf_probe_read(&e->sector, sizeof(e->sector), ctx + (f->sector & 0xff));
	bpf_probe_read(&e->sectors, sizeof(e->sectors), ctx + (f->nr_sector & 0xff));
	bpf_probe_read(rwbs, sizeof(rwbs), ctx + (f->rwbs & 0xff));
	e->op = rwbs[0];
	if (e->op == 'F' && (rwbs[1] == 'W' || rwbs[1] == 'D' || rwbs[1] == 'N')) /* a flush before it */
		e->op = rwbs[1];
	return 0;
}

/* mark marks the granules first..last and returns 0 when all were marked. */
static __attribute__((always_inline)) int mark(struct disk *d, u64 first, u64 last)
{
	u64 base = d->base, granules = d->granules;

	if (last - first > LEVEL_SPAN) {
		base += (granules + 7) >> 3;
		granules = (granules >> LEVEL_SHIFT) + 1;
		first >>= LEVEL_SHIFT;
		last >>= LEVEL_SHIFT;
	}
	if (last - first > LEVEL_SPAN) {
		base += (granules + 7) >> 3;
		first >>= LEVEL_SHIFT;
		last >>= LEVEL_SHIFT;
	}
#pragma unroll
	for (int k = 0; k < ELEMENTS; k++) {
		u64 element = (first >> 3) + k;
		u64 at = (base + element) << 3;
		u32 key = at >> CHUNK_SHIFT;
		u8 *m;

		if (element > last >> 3)
			return 0;
		m = bpf_map_lookup_elem(&marks, &key);
		if (!m)
			return 1;
		m += at & CHUNK_MASK & ~7;
#pragma unroll
		for (int i = 0; i < 8; i++) {
			u64 g = (element << 3) + i;

			if (g >= first && g <= last)
				m[i] = 1;
		}
	}
	return (first >> 3) + ELEMENTS <= last >> 3;
}

/* span turns sectors into granules of the disk, and returns 1 when some lie beyond its end. */
static __attribute__((always_inline)) int span(struct disk *d, u64 sector, u64 sectors, u64 *first, u64 *last)
{
	*first = sector >> (d->shift & 63);
	*last = (sector + sectors - 1) >> (d->shift & 63);
	if (*first <= *last && *last < d->granules)
		return 0;
	*last = d->granules - 1; /* the disk has grown, or the range makes no sense */
	if (*first > *last)
		*first = *last;
	return 1;
}

static __attribute__((always_inline)) struct counts *counts_of(struct disk *d)
{
	u32 key = d->index;

	return bpf_map_lookup_elem(&counters, &key);
}

static __attribute__((always_inline)) u64 note_key(struct disk *d, u64 sector)
{
	return (u64)d->index << 56 | sector;
}

/* forget removes the note of a request, or what it says of the sectors that have completed. */
static __attribute__((always_inline)) void forget(struct disk *d, struct event *e, int complete)
{
	u64 key = note_key(d, e->sector);
	struct note *noted = bpf_map_lookup_elem(&notes, &key);

	if (!noted)
		return;
	if (noted->requests > 1 && noted->sectors > e->sectors) { /* another one, or one whose completion was skipped */
		noted->sectors -= e->sectors;
		noted->requests--;
		return;
	}
	if (complete && noted->sectors > e->sectors) { /* a part, and the rest is still to come */
		struct note rest = *noted;
		u64 behind = note_key(d, e->sector + e->sectors);

		rest.sectors -= e->sectors;
		bpf_map_update_elem(&notes, &behind, &rest, 0);
	}
	bpf_map_delete_elem(&notes, &key);
}

/* forget_queued removes the note of a queued discard that is this request. One that is a part of the request, or that the
 * request is a part of, is handed out until the disk was idle. */
static __attribute__((always_inline)) void forget_queued(struct disk *d, struct event *e)
{
	u64 key = note_key(d, e->sector) | QUEUED;
	struct note *noted = bpf_map_lookup_elem(&notes, &key);

	if (noted && noted->queued == e->sectors)
		bpf_map_delete_elem(&notes, &key);
}

SEC("tracepoint/block/block_rq_complete") int rehost_complete(void *ctx)
{
	struct event e = {};
	struct counts *c;
	struct disk *d;
	u64 first, last;
	int bad;

	if (read_event(ctx, EVENT_COMPLETE, &e) || e.op == 'R')
		return 0;
	d = bpf_map_lookup_elem(&disks, &e.dev);
	if (!d)
		return 0;
	c = counts_of(d);
	if (!c)
		return 0;
	if (e.op == 'N' && (!e.sectors || e.sector == NO_SECTOR)) {
		/* A command whose range only the driver knows; whether it writes is not told. */
		__sync_fetch_and_add(&c->passthrough, 1);
		return 0;
	}
	if (!e.sectors) /* a flush, or the end of a flush sequence whose data was marked before */
		return 0;
	bad = span(d, e.sector, e.sectors, &first, &last);
	bad |= mark(d, first, last);
	if (e.op == 'D')
		__sync_fetch_and_add(&c->discarded, e.sectors);
	else
		__sync_fetch_and_add(&c->written, e.sectors);
	__sync_fetch_and_add(&c->requests, 1);
	if (bad)
		__sync_fetch_and_add(&c->unmarked, 1);
	forget(d, &e, 1);
	if (e.op == 'D' && d->ranges > 1)
		forget_queued(d, &e);
	return 0;
}

static __attribute__((always_inline)) void note(struct disk *d, struct event *e, int queued)
{
	struct note n = {};
	struct note *old;
	struct counts *c;
	u64 key = note_key(d, e->sector);

	n.issued = bpf_ktime_get_ns();
	n.base = d->base;
	n.index = d->index;
	if (queued) {
		key |= QUEUED;
		n.queued = e->sectors;
	} else {
		n.sectors = e->sectors;
		n.requests = 1;
	}
	span(d, e->sector, e->sectors, &n.first, &n.last);
	old = bpf_map_lookup_elem(&notes, &key);
	if (old) { /* two writes to one place, or one whose completion was skipped */
		n.sectors += old->sectors;
		n.requests += old->requests;
		if (queued)
			n.queued = ~0ULL;
		if (old->last > n.last)
			n.last = old->last;
	}
	if (bpf_map_update_elem(&notes, &key, &n, 0)) {
		c = counts_of(d);
		if (c)
			__sync_fetch_and_add(queued ? &c->unmarked : &c->unnoted, 1);
	}
}

SEC("tracepoint/block/block_rq_issue") int rehost_issue(void *ctx)
{
	struct event e = {};
	struct disk *d;

	if (read_event(ctx, EVENT_ISSUE, &e) || e.op == 'R' || !e.sectors || e.sector == NO_SECTOR)
		return 0;
	d = bpf_map_lookup_elem(&disks, &e.dev);
	if (d)
		note(d, &e, 0);
	return 0;
}

/* A request that the driver gives back is issued again later, and noted again. */
SEC("tracepoint/block/block_rq_requeue") int rehost_requeue(void *ctx)
{
	struct event e = {};
	struct disk *d;

	if (read_event(ctx, EVENT_REQUEUE, &e) || e.op == 'R' || !e.sectors || e.sector == NO_SECTOR)
		return 0;
	d = bpf_map_lookup_elem(&disks, &e.dev);
	if (d)
		forget(d, &e, 0);
	return 0;
}

/* Discards that are not adjacent may become one request, whose events name one range only. On a disk whose driver takes
 * such, each is noted when it is queued, and handed out until the disk was idle, by when it is complete. They are counted,
 * too: when more is discarded than was queued, an event was missed. User space enters partitions as disks, since this
 * event names them and yet counts sectors from the start of the disk. */
SEC("tracepoint/block/block_bio_queue") int rehost_queue(void *ctx)
{
	struct event e = {};
	struct counts *c;
	struct disk *d;

	if (read_event(ctx, EVENT_QUEUE, &e) || e.op != 'D' || !e.sectors)
		return 0;
	d = bpf_map_lookup_elem(&disks, &e.dev);
	if (!d || d->ranges < 2)
		return 0;
	note(d, &e, 1);
	c = counts_of(d);
	if (c)
		__sync_fetch_and_add(&c->queued, e.sectors);
	return 0;
}

struct __sk_buff {
	u32 before[19];
	u32 data;
	u32 data_end;
};

/* Before 5.5 user space cannot map the marks. It copies them then, and has this program clear the ones that it has seen:
 * it runs it itself, with their positions as a packet (BPF_PROG_TEST_RUN, from 4.12). Positions past the end say nothing. */
SEC("tc") int rehost_clear(struct __sk_buff *packet)
{
	u32 *positions = (void *)(long)packet->data;

	if ((void *)(positions + CLEARED) > (void *)(long)packet->data_end)
		return 1;
#pragma unroll
	for (int i = 0; i < CLEARED; i++) {
		u32 key = positions[i] >> CHUNK_SHIFT;
		u8 *m = bpf_map_lookup_elem(&marks, &key);

		if (m)
			m[positions[i] & CHUNK_MASK] = 0;
	}
	return 0;
}
