#include "proto/status.h"

#include <gtest/gtest.h>

#include "absl/strings/cord.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace qwen3 {
namespace {

constexpr char kInfoUrl[] = "type.googleapis.com/google.rpc.ErrorInfo";

absl::Status rich_status() {
  google::rpc::ErrorInfo info;
  info.set_reason("JOB_EXISTS");
  info.set_domain("qwen3");
  absl::Status status = absl::AlreadyExistsError("job \"a\" exists");
  status.SetPayload(kInfoUrl, absl::Cord(info.SerializeAsString()));
  return status;
}

TEST(Status, OkIsOkBothWays) {
  EXPECT_TRUE(to_grpc(absl::OkStatus()).ok());
  EXPECT_TRUE(from_grpc(grpc::Status::OK).ok());
}

TEST(Status, EveryCodeAndItsMessageGoThereAndBack) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status status(static_cast<absl::StatusCode>(code), "why");
    EXPECT_EQ(to_grpc(status).error_code(), code);
    EXPECT_EQ(from_grpc(to_grpc(status)), status);
  }
}

TEST(Status, DetailsTravelAsGoogleRpcStatus) {
  const grpc::Status wire = to_grpc(rich_status());
  google::rpc::Status details;
  ASSERT_TRUE(details.ParseFromString(wire.error_details()));
  EXPECT_EQ(details.code(), 6);
  ASSERT_EQ(details.details_size(), 1);
  google::rpc::ErrorInfo info;
  ASSERT_TRUE(details.details(0).UnpackTo(&info));
  EXPECT_EQ(info.reason(), "JOB_EXISTS");
  EXPECT_EQ(from_grpc(wire), rich_status());
}

TEST(Status, DetailsThatDoNotParseAreLeftOut) {
  const grpc::Status wire(grpc::StatusCode::ABORTED, "why", "\xff\xff not a message");
  EXPECT_EQ(from_grpc(wire), absl::AbortedError("why"));
}

}  // namespace
}  // namespace qwen3
