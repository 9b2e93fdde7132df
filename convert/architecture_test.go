package convert

import (
	"testing"

	"rehost/protocol"
)

// elfHeader is that of a program without anything in it.
func elfHeader(class, machine byte) string {
	size := 52
	if class == 2 {
		size = 64
	}
	header := append([]byte("\x7fELF"), class, 1, 1)
	header = append(header, make([]byte, size-len(header))...)
	header[16], header[18], header[20], header[size-12] = 2, machine, 1, byte(size)
	return string(header)
}

func TestArchitecture(t *testing.T) {
	for name, tt := range map[string]struct {
		program string
		want    protocol.FindingCode
	}{
		"64-bit x86": {elfHeader(2, 62), ""}, "32-bit x86": {elfHeader(1, 3), protocol.FindingArchitecture}, "64-bit ARM": {elfHeader(2, 183), protocol.FindingArchitecture},
		"SPARC": {elfHeader(1, 2), protocol.FindingArchitecture}, "a script": {"#!/bin/sh\n", ""},
	} {
		files := debian(t)
		files["usr/sbin/init"] = tt.program
		_, root := newGuest(t, files)
		plan, err := planFor(t, root, protocol.ConversionSettings{})
		if (err != nil) != (tt.want != "") || err != nil && plan.Findings[0].Code != tt.want {
			t.Errorf("%s: got %v, %+v", name, err, plan.Findings)
		}
	}
}
