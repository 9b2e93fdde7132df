package machine

import (
	"context"
	"errors"
	"fmt"
	"os"

	"rehost/protocol"
)

// What QEMU shows of itself: that it is there, and what was handed in beside the disks.
const (
	emulatorDevice = "/sys/bus/acpi/devices/QEMU0002:00"
	handedIn       = "/sys/firmware/qemu_fw_cfg/by_name/" + OrderName + "/raw"
)

// OrderName is the name under which QEMU hands in an order (-fw_cfg), for those who convert an image file
// without a cloud. Without one the order is the user data of the metadata service.
const OrderName = "opt/rehost/order"

// readOrder returns what to do. The drivers of disks are loaded on the way, while a network card's link comes up.
func readOrder(ctx context.Context, tools *Tools) (order protocol.ConversionOrder, err error) {
	load := func(names ...string) {
		for _, name := range names {
			if err := tools.mods.load(name); err != nil {
				tools.say(fmt.Sprintf("driver %s: %v", name, err))
			}
		}
	}
	data, err := tools.HandedIn()
	if err == nil && data == nil {
		load(networkDrivers("/sys")...)
	}
	load(diskDriver, "crc32c_generic")
	if err == nil && data == nil {
		data, err = fetchOrder(ctx, tools.say)
	}
	if err != nil {
		return order, err
	}
	return decodeOrder(data)
}

// HandedIn returns what QEMU hands in as an order; nil when there is none.
func (t *Tools) HandedIn() ([]byte, error) {
	if _, err := os.Stat(emulatorDevice); err != nil {
		return nil, nil //nolint:nilerr // no QEMU, nothing handed in
	}
	if err := t.mods.load("qemu_fw_cfg"); err != nil {
		return nil, err
	}
	data, err := os.ReadFile(handedIn)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	return data, err
}
