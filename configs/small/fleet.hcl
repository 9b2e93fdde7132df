# A small fleet: three servers of one shop, in two waves. Every commented line shows a default.

variable "subnet" {
  description = "where replication servers and targets live, such as subnet-0123456789abcdef0; empty: the region's default one"
  default     = ""
}

locals {
  team = { team = "shop" }
}

# How servers are staged. A server that names no replication block uses the one called "default".
replication "default" {
  subnet = var.subnet
  tags   = local.team

  # instance_type      = "t3.small"
  # image              = "rehost-replicaserver" # name or id
  # volume_type        = "gp3"
  # volumes_per_server = 15
  # dedicated          = false    # true: a replication server of its own for each server
  # replace_after      = "3m"     # a replication server that is silent for so long is replaced; "0s": only when its instance has ended
  # window             = "128MiB" # sent by an agent and not yet durable
  # stream_size        = "1GiB"   # of the broker's disk, for each server
  # freeze_budget      = "250ms"  # longest wanted freeze for a point
  # freeze_attempts    = 5        # of a point that does not come off, with growing pauses
  # concurrency        = 0        # servers of it that jobs work on at once; 0: as many as waves and the controller let

  # Points beside those that a test or a cutover takes. every = "0s": only on request.
  points {
    every = "10m"

    # Of each of these periods one stays; and the newest in any case.
    # retain = ["10m for 1h", "1h for 1d", "1d for 7d"]
    # keep   = 1
  }

  # What agents may send: each one, and all of them together. Without a limit: "0".
  bandwidth {
    server = "50 Mbit/s"
    site   = "200 Mbit/s"

    # In the office hours there is less. The first window that it is now counts; one may pass midnight.
    window {
      days   = ["mon", "tue", "wed", "thu", "fri"]
      from   = "08:00"
      to     = "18:00"
      zone   = "Europe/Vienna"
      server = "10 Mbit/s"
      site   = "40 Mbit/s"
    }
  }
}

# How a server becomes an instance.
launch "default" {
  subnet        = var.subnet
  ingress_ports = [22]
  tags          = local.team

  # instance_type            = "t3.small" # or "auto": the cheapest with the source's cores and memory
  # private_ip               = "auto"     # or "copy": the source's own
  # volume_type              = "gp3"      # of all disks; a disk block changes one
  # disposition              = "started"  # or "stopped"
  # conversion_image         = "rehost-convert" # name or id
  # conversion_instance_type = "t3.small"
  # boot_mode                = "source" # or bios, uefi
  # network                  = "dhcp"   # or keep
  # test_identity            = "keep"   # of tests; or new: another machine id and other SSH host keys
  # ready { every = "off" }             # or "24h": find out each day whether a fresh copy boots, in the test_subnet
}

# It inherits from the other one, as a block for a single server may.
launch "web" {
  from          = launch.default
  instance_type = "m5.large"
  ingress_ports = [22, 80, 443]
}

# What a launched instance must show before a test or a cutover counts.
check "http" {
  kind     = "http"
  contains = "Welcome to the shop"

  # port    = 80
  # path    = "/"
  # status  = 200
  # timeout = "10m"
}

check "ssh" {
  kind = "tcp"
  port = 22

  # timeout = "10m"
}

check "console" {
  kind = "console"

  # contains = "login:"
  # timeout  = "10m"
}

server "web-1" {
  launch = launch.web
  checks = [check.http]

  # replication = replication.default
  # disks       = []     # those of the agent's own configuration
  # fence       = "hook" # or confirmed: the operator has stopped the writers
  # fence_max   = "1h"   # of a fence that is not committed; then the agent lets the writers go by itself
}

server "web-2" {
  launch = launch.web
  checks = [check.http]
}

server "db-1" {
  checks = [check.console, check.ssh]

  # launch = launch.default
}

application "shop" {
  servers = [server.web-1, server.web-2]
}

application "database" {
  servers = [server.db-1]
}

wave "database" {
  applications = [application.database]

  # after       = []
  # concurrency = 10 # servers at once
}

wave "shop" {
  applications = [application.shop]
  after        = [wave.database]
}
