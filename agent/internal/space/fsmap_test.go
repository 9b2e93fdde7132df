package space

import (
	"encoding/binary"
	"errors"
	"testing"
)

const testDevice = 0x801

func free(at, length uint64) record {
	return record{device: testDevice, flags: flagSpecial, owner: ownerFree, physical: at, length: length}
}

func used(at, length uint64) record {
	return record{device: testDevice, owner: 12, physical: at, length: length}
}

func collect(size int64, records ...record) ([]Range, error) {
	c := collector{device: testDevice, size: size}
	for _, r := range records {
		if err := c.add(r); err != nil {
			return nil, err
		}
	}
	c.keep()
	return c.free, nil
}

func TestRecordsBecomeRanges(t *testing.T) {
	const k = minRange
	other := free(0, 64*k)
	other.device = 0x802
	got, err := collect(100*k, used(0, k), free(k, k), free(2*k, k), used(3*k, 2*k), used(3*k, k), free(5*k, k-1), used(6*k, k), other, free(90*k, 10*k))
	if err != nil || len(got) != 2 || got[0] != (Range{k, 2 * k}) || got[1] != (Range{90 * k, 10 * k}) {
		t.Errorf("got %v, %v", got, err)
	}
}

// A damaged filesystem must never make data be left out.
func TestRecordsThatContradictEachOtherAreNotBelieved(t *testing.T) {
	for name, records := range map[string][]record{
		"free over used":         {used(0, 8192), free(4096, 4096)},
		"used over free":         {free(0, 8192), used(4096, 4096)},
		"free twice":             {free(0, 8192), free(4096, 8192)},
		"backwards":              {used(8192, 4096), free(0, 4096)},
		"no length":              {free(4096, 0)},
		"beyond the end":         {free(0, 1<<21)},
		"around the end of time": {free(4096, ^uint64(0))},
	} {
		if got, err := collect(1<<20, records...); !errors.Is(err, errInsane) {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func FuzzRecords(f *testing.F) {
	f.Add([]byte{1, 0, 16, 0, 16, 16, 1, 32, 200})
	f.Add([]byte{0, 0, 255, 1, 255, 1, 1, 0, 3})
	f.Fuzz(func(t *testing.T, script []byte) {
		const unit, size = 16 << 10, 1 << 22
		var records []record
		for ; len(script) >= 3; script = script[3:] {
			r := used(uint64(script[1])*unit, uint64(script[2])*unit)
			if script[0]&1 != 0 {
				r = free(uint64(script[1])*unit, uint64(script[2])*unit)
			}
			records = append(records, r)
		}
		ranges, err := collect(size, records...)
		if err != nil {
			return
		}
		end := int64(0)
		for _, g := range ranges {
			if g.Offset < end || g.Length < minRange || g.Offset+g.Length > size {
				t.Fatalf("range %+v after %d", g, end)
			}
			end = g.Offset + g.Length
			for _, r := range records {
				if !r.free() && int64(r.physical) < end && int64(r.physical+r.length) > g.Offset {
					t.Fatalf("range %+v covers %+v", g, r)
				}
			}
		}
	})
}

func FuzzDecode(f *testing.F) {
	whole := make([]byte, headBytes+2*recordBytes)
	binary.NativeEndian.PutUint32(whole[offCount:], 2)
	binary.NativeEndian.PutUint32(whole[offEntries:], 2)
	binary.NativeEndian.PutUint32(whole[offOflags:], flagDevices)
	f.Add(whole)
	f.Add(whole[:headBytes+recordBytes])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		records, err := decode(b)
		if err == nil && len(records)*recordBytes > len(b) {
			t.Fatalf("%d records from %d bytes", len(records), len(b))
		}
	})
}
