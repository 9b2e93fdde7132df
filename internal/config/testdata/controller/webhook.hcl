bus {
  embedded {}
}
cloud { region = "eu-central-1" }

webhook "ops" {
  url         = "ftp://example.com"
  secret_file = "/etc/rehost/ops.secret"
  events      = ["server.lifecycle", "job.job_ended"]
}

webhook "ops" {
  url = "https://example.com/hook"
}
