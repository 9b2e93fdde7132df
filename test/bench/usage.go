package main

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
)

const clockTicks = 100 // per second, of /proc/PID/stat on Linux

// usage is what processes need.
type usage struct {
	processes, threads int
	rss, peak          float64 // MiB of resident memory
	cpu                float64 // seconds, of the user and of the kernel
}

func (u usage) plus(v usage) usage {
	return usage{u.processes + v.processes, u.threads + v.threads, u.rss + v.rss, u.peak + v.peak, u.cpu + v.cpu}
}

// processUsage returns what a process needs now, and needed up to now.
func processUsage(pid int) (usage, error) {
	u := usage{processes: 1}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return u, err
	}
	for line := range strings.Lines(string(status)) {
		name, value, _ := strings.Cut(line, ":")
		words := strings.Fields(value)
		if len(words) == 0 {
			continue
		}
		n, err := strconv.ParseFloat(words[0], 64)
		if err != nil {
			continue // not a number
		}
		switch name {
		case "VmHWM":
			u.peak = n / 1024
		case "VmRSS":
			u.rss = n / 1024
		case "Threads":
			u.threads = int(n)
		}
	}
	words, err := statWords(pid)
	if err != nil {
		return u, err
	}
	const utime, stime = 11, 12 // counted from the state
	for _, i := range []int{utime, stime} {
		ticks, err := strconv.ParseFloat(words[i], 64)
		if err != nil {
			return u, err
		}
		u.cpu += ticks / clockTicks
	}
	return u, nil
}

// statWords returns the words of /proc/PID/stat from the state on: before it is the program's name, which may hold anything.
func statWords(pid int) ([]string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, after, _ := strings.Cut(string(stat), ") ")
	return strings.Fields(after), nil
}

// childrenOf lists the processes that a process has started.
func childrenOf(parent int) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var all []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		words, err := statWords(pid)
		if err == nil && len(words) > 1 && words[1] == strconv.Itoa(parent) {
			all = append(all, pid)
		}
	}
	slices.Sort(all)
	return all, nil
}
