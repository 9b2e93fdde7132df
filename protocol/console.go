package protocol

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// consoleMark starts each line of a report on a console; kernel messages around it are ignored.
const (
	consoleMark  = "rehost-report:"
	consoleWidth = 512
	maxReport    = 4 << 20
)

// ConsoleReport turns a report into lines for a serial console: compressed, numbered
// ("rehost-report: 1/7 <base64>"), so that a lost or mangled line is noticed.
// EC2 keeps the last 64 KiB of a console, so a report must stay well below.
func ConsoleReport(r *ConversionReport) ([]string, error) {
	var packed bytes.Buffer
	zw := gzip.NewWriter(&packed)
	if err := json.NewEncoder(zw).Encode(r); err != nil {
		return nil, fmt.Errorf("encode conversion report: %w", err)
	}
	if err := zw.Close(); err != nil {
		return nil, fmt.Errorf("compress conversion report: %w", err)
	}
	text := base64.StdEncoding.EncodeToString(packed.Bytes())
	total := (len(text) + consoleWidth - 1) / consoleWidth
	lines := make([]string, 0, total)
	for i := range total {
		part := text[i*consoleWidth : min((i+1)*consoleWidth, len(text))]
		lines = append(lines, fmt.Sprintf("%s %d/%d %s", consoleMark, i+1, total, part))
	}
	return lines, nil
}

// ParseConsole finds the newest whole report in a console's text. ok is false while there is none.
func ParseConsole(console string) (r ConversionReport, ok bool, err error) {
	var parts []string
	for line := range strings.Lines(console) {
		_, rest, found := strings.Cut(line, consoleMark)
		if !found {
			continue
		}
		var n, total int
		var part string
		if _, err := fmt.Sscanf(rest, "%d/%d %s", &n, &total, &part); err != nil {
			continue
		}
		if n == 1 {
			parts = nil
		}
		if n != len(parts)+1 {
			parts = nil
			continue
		}
		parts = append(parts, part)
		if n == total {
			ok = true
			r, err = decodeReport(strings.Join(parts, ""))
			parts = nil
		}
	}
	return r, ok, err
}

func decodeReport(text string) (ConversionReport, error) {
	packed, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return ConversionReport{}, fmt.Errorf("decode conversion report: %w", err)
	}
	zr, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return ConversionReport{}, fmt.Errorf("decompress conversion report: %w", err)
	}
	var r ConversionReport
	if err := json.NewDecoder(io.LimitReader(zr, maxReport)).Decode(&r); err != nil {
		return ConversionReport{}, fmt.Errorf("decode conversion report: %w", err)
	}
	return r, nil
}
