module github.com/dssauth/dssauth/gateway

go 1.26.0

require (
	github.com/dssauth/dssauth v0.0.0
	github.com/go-jose/go-jose/v4 v4.1.9
	github.com/hashicorp/golang-lru/v2 v2.0.7
	github.com/stretchr/testify v1.12.1
)

require (
	github.com/go-json-experiment/json v1.27.2 // indirect
	go.yaml.in/yaml/v3 v3.0.5 // indirect
)

replace github.com/dssauth/dssauth => ../
