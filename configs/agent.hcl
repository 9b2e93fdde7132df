# The agent's configuration on a source host: /etc/rehost/agent.hcl. Every commented line shows a default.
# `rehost server token NAME --out DIR` writes one that is ready to use, with a token and the bus's CA.

server = "web-1"            # the name under which the fleet knows this host
disks  = ["/dev/sda"]       # whole disks

bus {
  servers = ["tls://bus.example.com:4222"]
  ca_file = "/etc/rehost/ca.pem"
}

# token_file = "/etc/rehost/token" # one-time; needed until the host has enrolled
# state_dir  = "/var/lib/rehost"
# run_dir    = "/run/rehost"
# pin_dir    = "/sys/fs/bpf/rehost"
# window     = "128MiB"            # sent and not yet durable

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

log {
  # level  = "info" # trace, debug, info, warn, error
  # format = "json" # or text
}
