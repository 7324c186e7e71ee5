module github.com/dssauth/dssauth/gateway

go 1.26.0

require (
	github.com/dssauth/dssauth v0.0.0
	github.com/stretchr/testify v1.12.1
	go.yaml.in/yaml/v3 v3.0.5
)

require github.com/go-json-experiment/json v1.27.2 // indirect

replace github.com/dssauth/dssauth => ../
