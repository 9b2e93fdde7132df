# The agent's configuration on a source host: /etc/rehost/agent.hcl. Every commented line shows a default.
# `rehost server token NAME --out DIR` writes one that is ready to use, with a token and the bus's CA.

server = "web-1"      # the name under which the fleet knows this host
disks  = ["/dev/sda"] # whole disks

bus {
  servers = ["tls://bus.example.com:4222"]
  ca_file = "/etc/rehost/ca.pem"
}

# token_file = "/etc/rehost/token" # one-time; needed until the host has enrolled
# state_dir  = "/var/lib/rehost"
# run_dir    = "/run/rehost"
# pin_dir    = "/sys/fs/bpf/rehost"
# window     = "128MiB"            # sent and not yet durable
# tracker    = "auto"              # the best of: "btf", "classic" (no BTF needed), "scan" (compares everything periodically)
# free_space = "skip"              # what no filesystem uses when the sync begins is not sent; "copy" sends it, too
# cpus       = 0                   # cores that the agent may keep busy; 0: half of the host's

# Programs of yours, run without a shell.
hooks {
  fence   = ["/usr/bin/systemctl", "stop", "apache2"]  # stops the writers before a cutover's last point
  unfence = ["/usr/bin/systemctl", "start", "apache2"] # takes it back

  # pre_freeze = []
  # post_thaw  = []
  # timeout    = "30s"
}

freeze {
  # budget = "250ms" # longest wanted
  # cap    = "2s"    # thawed at this age, whatever happens
  # memory = "256MiB" # read into memory while frozen
}

# The replica is compared with the disks, hash by hash.
verify {
  # every     = "24h"      # from the end of a pass to the next one; "0s": only on request (rehost verify)
  # bandwidth = "32 MiB/s" # read from the disks in the background
}

log {
  # level  = "info" # trace, debug, info, warn, error
  # format = "json" # or text
}
