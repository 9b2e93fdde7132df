bus {
  embedded {}
}

cloud {
  region   = "eu-central-1"
  role_arn = "rehost-controller"
}
