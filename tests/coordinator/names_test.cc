#include "coordinator/names.h"

#include <gtest/gtest.h>

namespace qwen3::coordinator {
namespace {

TEST(Names, AJobsNameIsTakenApartAndPutTogether) {
  EXPECT_EQ(job_name("a-1"), "tenants/default/jobs/a-1");
  EXPECT_EQ(job_id("tenants/default/jobs/a-1"), "a-1");
}

TEST(Names, WhatIsNotAJobsNameHasNoId) {
  for (const char* name :
       {"", "a", "tenants/default/jobs/", "tenants/other/jobs/a", "tenants/default/jobs/A", "tenants/default/jobs/1a",
        "tenants/default/jobs/../a", "tenants/default/jobs/a/b", "tenants/default/jobs/a\n"}) {
    EXPECT_EQ(job_id(name), "") << name;
  }
  EXPECT_EQ(job_id("tenants/default/jobs/" + std::string(64, 'a')), "");
}

TEST(Names, ACheckpointsNameAndFolderAreParsedStrictly) {
  const auto name = parse_checkpoint_name("tenants/default/jobs/a/checkpoints/step-20");
  ASSERT_TRUE(name.has_value());
  EXPECT_EQ(name->job, "tenants/default/jobs/a");
  EXPECT_EQ(name->step, 20);
  EXPECT_FALSE(parse_checkpoint_name("tenants/default/jobs/a/checkpoints/step-"));
  EXPECT_FALSE(parse_checkpoint_name("tenants/default/jobs/a/checkpoints/step-02"));
  EXPECT_FALSE(parse_checkpoint_name("tenants/default/jobs/a/checkpoints/step--2"));
  const auto folder = parse_checkpoint_folder("step-20.attempt-3");
  ASSERT_TRUE(folder.has_value());
  EXPECT_EQ(folder->step, 20);
  EXPECT_EQ(folder->attempt, 3);
  EXPECT_EQ(checkpoint_folder_name(20, 3), "step-20.attempt-3");
  for (const char* other : {"step-20", "step-20.attempt-", "step-x.attempt-1", "step-20.attempt-1.tmp", "hf"}) {
    EXPECT_FALSE(parse_checkpoint_folder(other)) << other;
  }
}

TEST(Names, OperationsAndJobsAreToldApartAndShareNoFile) {
  EXPECT_EQ(operation_name("op-1"), "tenants/default/operations/op-1");
  EXPECT_EQ(operation_id("tenants/default/operations/op-1"), "op-1");
  EXPECT_EQ(operation_id(job_name("op-1")), "");
  EXPECT_EQ(operation_id("tenants/default/operations/../x"), "");
  EXPECT_EQ(job_id(operation_name("op-1")), "");
  EXPECT_EQ(record_id(job_name("op-1")), "op-1");
  EXPECT_NE(record_id(operation_name("op-1")), "op-1");
  EXPECT_EQ(record_id("tenants/default/jobs/.."), "");
}

}  // namespace
}  // namespace qwen3::coordinator
